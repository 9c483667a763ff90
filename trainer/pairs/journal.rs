//! The file of a making: a row for each prompt, in the order of their draws, and beside it what they were
//! made with. A making goes on behind the last whole portion of prompts: the same prompts are sampled
//! together again, so that the result does not depend on interruptions.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agreement::decide;
use crate::learn::Ranks;
use crate::{TrainError, files};

/// What rows are made with; another one makes other rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MadeWith {
    /// Digest of the policy's weights.
    pub(crate) policy: String,
    /// Everything else that decides the rows.
    pub(crate) options: Value,
    /// Prompts that are sampled together.
    pub(crate) portion: usize,
    /// Prompts in all.
    pub(crate) prompts: usize,
}

/// A making's file.
#[derive(Debug)]
pub(crate) struct PairJournal {
    path: PathBuf,
    rows: Vec<Value>,
    file: Option<File>,
}

impl PairJournal {
    /// What stands in `path`, without what was torn, for all ranks alike; made with what, where that is known.
    ///
    /// # Errors
    /// A file that cannot be read; a lost rank.
    pub(crate) fn open(path: &Path, ranks: &Ranks) -> Result<(Self, Option<MadeWith>), TrainError> {
        let (rows, made) = decide(ranks, || read(path))?;
        let journal = Self {
            path: path.to_owned(),
            rows,
            file: None,
        };
        Ok((journal, made))
    }

    /// The rows so far.
    pub(crate) fn rows(&self) -> &[Value] {
        &self.rows
    }

    /// Whether the last of `prompts` is there.
    pub(crate) fn is_whole(&self, prompts: usize) -> bool {
        self.rows.len() >= prompts
    }

    /// Goes on behind the last whole portion, or from the start (`anew`); rank 0 (`leader`) writes.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn begin(
        &mut self,
        made: &MadeWith,
        anew: bool,
        leader: bool,
    ) -> Result<(), TrainError> {
        let whole = self.is_whole(made.prompts);
        let keep = match (anew, whole) {
            (true, _) => 0,
            (false, true) => made.prompts,
            (false, false) => self.rows.len() / made.portion * made.portion,
        };
        self.rows.truncate(keep);
        if !leader {
            return Ok(());
        }
        files::make_folder(files::parent(&self.path))?;
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&line(row)?);
        }
        // The rows before the word that they go together with the options.
        files::write_whole(&self.path, text.as_bytes())?;
        let made = serde_json::to_vec_pretty(made).map_err(other)?;
        files::write_whole(&beside(&self.path), &made)?;
        self.file = Some(files::open_log(&self.path)?);
        Ok(())
    }

    /// Adds the rows of a portion, durably.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn add(&mut self, rows: Vec<Value>) -> Result<(), TrainError> {
        let lines: Result<String, TrainError> = rows.iter().map(line).collect();
        let lines = lines?;
        if let Some(file) = &mut self.file {
            file.write_all(lines.as_bytes())
                .and_then(|()| file.sync_data())
                .map_err(TrainError::io(&self.path))?;
        }
        self.rows.extend(rows);
        Ok(())
    }
}

fn read(path: &Path) -> Result<(Vec<Value>, Option<MadeWith>), TrainError> {
    let mut rows = Vec::new();
    let made = fs::read(beside(path)).ok();
    let made = made.and_then(|text| serde_json::from_slice(&text).ok());
    if path.exists() {
        let text = fs::read_to_string(path).map_err(TrainError::io(path))?;
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            match serde_json::from_str(line) {
                Ok(row) => rows.push(row),
                Err(_) => break,
            }
        }
    }
    Ok((rows, made))
}

fn line(row: &Value) -> Result<String, TrainError> {
    Ok(format!("{}\n", serde_json::to_string(row).map_err(other)?))
}

fn other(error: serde_json::Error) -> TrainError {
    TrainError::Other(error.to_string())
}

/// Where it stands what a file's rows were made with.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.made.json"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_making_goes_on_behind_its_last_whole_portion() {
        let folder = tempfile::tempdir().unwrap();
        let ranks = Ranks::single(tch::Device::Cpu);
        let path = folder.path().join("pairs/dpo.jsonl");
        let made = MadeWith {
            policy: "a".into(),
            options: json!({"candidates": 2}),
            portion: 2,
            prompts: 5,
        };
        let rows =
            |from: usize, to: usize| (from..to).map(|at| json!({"at": at})).collect::<Vec<_>>();
        let (mut journal, before) = PairJournal::open(&path, &ranks).unwrap();
        assert_eq!(before, None);
        journal.begin(&made, false, true).unwrap();
        journal.add(rows(0, 2)).unwrap();
        let one = fs::read_to_string(&path).unwrap();
        // Torn in the second portion.
        fs::write(&path, format!("{one}{{\"at\":2}}\n{{\"a")).unwrap();
        let (mut journal, before) = PairJournal::open(&path, &ranks).unwrap();
        assert_eq!(before.as_ref(), Some(&made));
        journal.begin(&made, false, true).unwrap();
        assert_eq!(journal.rows(), rows(0, 2));
        journal.add(rows(2, 4)).unwrap();
        journal.add(rows(4, 5)).unwrap();
        let (mut journal, _) = PairJournal::open(&path, &ranks).unwrap();
        assert!(journal.is_whole(5));
        journal.begin(&made, false, true).unwrap();
        assert_eq!(journal.rows(), rows(0, 5));
        journal.begin(&made, true, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
