//! The files of one source: found by path, folder or pattern, read by place, named in errors.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::record::RowPlace;
use crate::data::config::SourceConfig;
use crate::data::error::{At, DataError};

/// One file of a source.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) bytes: u64,
}

/// The files of one source.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) kind: FileKind,
    pub(crate) list: Vec<DataFile>,
    key: String,
}

/// How files hold records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Json,
    Csv,
    Parquet,
    SvgFolder,
    Coco,
}

impl FileKind {
    fn of(source: &SourceConfig) -> Self {
        match source {
            SourceConfig::Csv(_) => Self::Csv,
            SourceConfig::Parquet(_) | SourceConfig::Vectorgym(_) => Self::Parquet,
            SourceConfig::SvgFolder(_) => Self::SvgFolder,
            SourceConfig::Coco(_) => Self::Coco,
            _ => Self::Json,
        }
    }

    /// Endings of the files that are taken from a folder.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["jsonl", "json", "ndjson"],
            Self::Csv => &["csv"],
            Self::Parquet => &["parquet"],
            Self::SvgFolder => &["svg"],
            Self::Coco => &["json"],
        }
    }
}

impl Files {
    /// Opens the files at `path`: one file, a folder's files of the format's ending, or those that
    /// match a pattern with `*` in its last part. `key` is what names them: a config's key, a flag.
    pub(crate) fn open(source: &SourceConfig, key: &str, path: &Path) -> Result<Self, DataError> {
        let kind = FileKind::of(source);
        let files = named(path, kind.endings())
            .and_then(|paths| paths.into_iter().map(open).collect::<Result<Vec<_>, _>>())
            .map_err(|source| DataError::Read {
                key: key.to_owned(),
                path: path.to_owned(),
                source,
            })?;
        if files.is_empty() {
            return Err(DataError::config(
                key,
                format!(
                    "{} has no file ending in {}",
                    path.display(),
                    kind.endings().join(", ")
                ),
            ));
        }
        Ok(Self {
            kind,
            list: files,
            key: key.to_owned(),
        })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.list.iter().map(|file| file.bytes).sum()
    }

    /// How many bytes of all files lie before a place.
    pub(crate) fn position(&self, place: RowPlace) -> u64 {
        let before = self.list[..place.file as usize].iter();
        let within = match self.kind {
            FileKind::Json | FileKind::Csv => place.offset,
            _ => 0,
        };
        before.map(|file| file.bytes).sum::<u64>() + within
    }

    /// An error about the record at `place`.
    pub(crate) fn bad(&self, place: RowPlace, problem: String) -> DataError {
        let at = match self.kind {
            FileKind::Parquet => At::RowGroup {
                group: place.offset,
                row: u64::from(place.bytes),
            },
            FileKind::SvgFolder => At::File,
            FileKind::Coco => At::Record(u64::from(place.line)),
            FileKind::Json | FileKind::Csv => At::Line(u64::from(place.line)),
        };
        DataError::Row {
            path: self.list[place.file as usize].path.clone(),
            at,
            problem,
        }
    }

    /// What the record is called when it has no id of its own.
    pub(crate) fn default_id(&self, place: RowPlace) -> String {
        let path = &self.list[place.file as usize].path;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        match self.kind {
            FileKind::SvgFolder => stem.into_owned(),
            _ if self.list.len() > 1 => format!("{stem}:{}", place.line),
            _ => place.line.to_string(),
        }
    }

    /// Folder that a record's relative paths start from.
    pub(crate) fn folder(&self, place: RowPlace) -> &Path {
        let path = &self.list[place.file as usize].path;
        path.parent().unwrap_or(Path::new(""))
    }

    pub(crate) fn unreadable(&self, index: u32, source: std::io::Error) -> DataError {
        DataError::Read {
            key: self.key.clone(),
            path: self.list[index as usize].path.clone(),
            source,
        }
    }

    pub(crate) fn slice(&self, place: RowPlace) -> Result<Vec<u8>, DataError> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; place.bytes as usize];
        self.list[place.file as usize]
            .file
            .read_exact_at(&mut bytes, place.offset)
            .map_err(|source| self.unreadable(place.file, source))?;
        Ok(bytes)
    }

    /// Whether a JSON file is one array: its first byte that is no space decides.
    pub(crate) fn is_array(&self, index: u32) -> Result<bool, DataError> {
        use std::os::unix::fs::FileExt;
        let file = &self.list[index as usize].file;
        let (mut offset, mut bytes) = (0, [0; 4096]);
        loop {
            let read = file
                .read_at(&mut bytes, offset)
                .map_err(|source| self.unreadable(index, source))?;
            let chunk = bytes[..read].strip_prefix(b"\xef\xbb\xbf");
            let chunk = chunk.unwrap_or(&bytes[..read]).trim_ascii_start();
            match chunk.first() {
                Some(first) => return Ok(*first == b'['),
                None if read == 0 => return Ok(false),
                None => offset += read as u64,
            }
        }
    }
}

fn open(path: PathBuf) -> std::io::Result<DataFile> {
    let file = File::open(&path)?;
    let bytes = file.metadata()?.len();
    Ok(DataFile { path, file, bytes })
}

/// The files that a source's `path` names, in the order of their names.
fn named(path: &Path, endings: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let pattern = name.contains('*').then_some(&*name);
    let folder = match pattern {
        Some(_) => match path.parent() {
            // A pattern alone is of the working directory, which has no empty name.
            None => Path::new("."),
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
        },
        None if path.is_dir() => path,
        None => return Ok(vec![path.to_owned()]),
    };
    let keep = |file: &Path| match pattern {
        Some(pattern) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            fits(pattern, &name)
        }
        None => {
            let ending = file.extension().unwrap_or_default().to_string_lossy();
            endings
                .iter()
                .any(|known| ending.eq_ignore_ascii_case(known))
        }
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.is_file() && keep(file));
    files.sort();
    Ok(files)
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            let part: &str = part;
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(fits("train-*.parquet", "train-00000-of-00012.parquet"));
        assert!(fits("*", "anything") && fits("a*b*c", "a-b-b-c") && fits("ab", "ab"));
        assert!(
            !fits("train-*.parquet", "test-0.parquet") && !fits("a*b", "ab-") && !fits("ab", "abc")
        );
        assert!(!fits("ab*ba", "aba"));
    }
}
