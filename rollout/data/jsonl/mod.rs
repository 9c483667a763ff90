//! The source format `jsonl`: one JSON object per line, with mapped fields.
//!
//! Opening reads the file once and checks every row; only places and lengths stay in
//! memory, and a row is read and parsed again each time it is drawn. Blank lines are
//! passed over. Compressed files and other layouts are other formats.

mod row;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::catalog::Opened;
use super::config::{JsonlConfig, OnBadRow, Split};
use super::error::DataError;
use super::example::Example;
use super::shuffle::permuted;
use row::RowReader;

/// An opened file.
#[derive(Debug)]
pub(crate) struct Jsonl {
    key: String,
    path: PathBuf,
    file: File,
    reader: RowReader,
    rows: Vec<Place>,
}

/// Where a row is, and how long its reference.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    bytes: u32,
    line: u32,
    length: u32,
}

impl Jsonl {
    /// Opens and validates the file of `config`, which stands at `key`; `base` is the folder
    /// that its path is relative to, `check` what a row must pass besides.
    pub(crate) fn open(
        config: &JsonlConfig,
        key: &str,
        base: &Path,
        on_bad_row: OnBadRow,
        check: &dyn Fn(&Example) -> Result<(), String>,
    ) -> Result<Opened<Self>, DataError> {
        if config.path.as_os_str().is_empty() {
            return Err(DataError::config(
                format!("{key}.path"),
                "a jsonl source needs the path of its file",
            ));
        }
        if config.split == Split::HeldOut && config.held_out > 0 {
            return Err(DataError::config(
                format!("{key}.held_out"),
                "only for split: train; with split: held_out every row is held out",
            ));
        }
        let path = base.join(&config.path);
        let media = match &config.media_root {
            Some(folder) => base.join(folder),
            None => path.parent().unwrap_or(base).to_owned(),
        };
        let file = File::open(&path).map_err(|source| DataError::Read {
            key: format!("{key}.path"),
            path: path.clone(),
            source,
        })?;
        let mut jsonl = Self {
            key: key.to_owned(),
            path,
            file,
            reader: RowReader::new(&config.fields, media),
            rows: Vec::new(),
        };
        let skipped = jsonl.index(on_bad_row, check)?;
        if jsonl.rows.is_empty() {
            let path = jsonl.path.display();
            return Err(DataError::config(
                format!("{key}.path"),
                match skipped.first() {
                    Some(first) => format!("{path} has no usable row; the first problem: {first}"),
                    None => format!("{path} has no row"),
                },
            ));
        }
        let (train, held_out) = jsonl.split(config, key)?;
        Ok(Opened {
            rows: jsonl,
            train,
            held_out,
            skipped,
        })
    }

    /// Characters of a row's reference.
    pub(crate) fn length(&self, row: usize) -> u32 {
        self.rows[row].length
    }

    /// The example of a row; source name and task are filled in by the catalog.
    pub(crate) fn example(&self, row: usize) -> Result<Example, DataError> {
        let place = self.rows[row];
        let mut bytes = vec![0; place.bytes as usize];
        self.file
            .read_exact_at(&mut bytes, place.offset)
            .map_err(|source| self.unreadable(source))?;
        self.reader
            .example(&bytes, u64::from(place.line))
            .map_err(|problem| self.bad_row(u64::from(place.line), problem))
    }

    /// Fills in `rows`; returns the problems of rows left out.
    fn index(
        &mut self,
        on_bad_row: OnBadRow,
        check: &dyn Fn(&Example) -> Result<(), String>,
    ) -> Result<Vec<String>, DataError> {
        let mut skipped = Vec::new();
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let (mut offset, mut line, mut bytes) = (0, 0, Vec::new());
        loop {
            bytes.clear();
            let read = reader
                .read_until(b'\n', &mut bytes)
                .map_err(|source| self.unreadable(source))?;
            if read == 0 {
                return Ok(skipped);
            }
            line += 1;
            let start = offset;
            offset += read as u64;
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let example = self.reader.example(&bytes, line);
            let checked = |example: Example| check(&example).map(|()| example);
            match example.and_then(checked) {
                Ok(example) => self.rows.push(Place {
                    offset: start,
                    bytes: read as u32,
                    line: line as u32,
                    length: example.length as u32,
                }),
                Err(problem) => {
                    let error = self.bad_row(line, problem);
                    match on_bad_row {
                        OnBadRow::Error => return Err(error),
                        OnBadRow::Skip => skipped.push(error.to_string()),
                    }
                }
            }
        }
    }

    fn split(&self, config: &JsonlConfig, key: &str) -> Result<(Vec<u32>, Vec<u32>), DataError> {
        let n = self.rows.len();
        if config.split == Split::HeldOut {
            return Ok((Vec::new(), (0..n as u32).collect()));
        }
        if config.held_out >= n {
            return Err(DataError::config(
                format!("{key}.held_out"),
                format!(
                    "must be less than the {n} rows of the file, got {}",
                    config.held_out
                ),
            ));
        }
        let mut aside = vec![false; n];
        for at in 0..config.held_out {
            aside[permuted(at, n, config.seed)] = true;
        }
        Ok((0..n as u32).partition(|row| !aside[*row as usize]))
    }

    fn bad_row(&self, line: u64, problem: String) -> DataError {
        DataError::Row {
            path: self.path.clone(),
            line,
            problem,
        }
    }

    fn unreadable(&self, source: std::io::Error) -> DataError {
        DataError::Read {
            key: format!("{}.path", self.key),
            path: self.path.clone(),
            source,
        }
    }
}
