//! `metrics.jsonl`: one JSON object a step for machines, beside the TensorBoard events.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Metrics, keys};
use crate::TrainError;
use crate::tensorboard::{EventLog, Scalars};

/// `metrics.jsonl` and the TensorBoard events of a run folder.
pub struct MetricsFile {
    file: File,
    events: EventLog,
}

impl MetricsFile {
    /// Opens the file for appending.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(run: &Path) -> Result<Self, TrainError> {
        let path = path(run);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(TrainError::io(&path))?;
        Ok(Self {
            file,
            events: EventLog::new(run.join("tensorboard")),
        })
    }

    /// Appends one row.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&mut self, stage: &str, step: u64, metrics: &Metrics) -> Result<(), TrainError> {
        let mut row = Map::new();
        row.insert("stage".into(), json!(stage));
        row.insert("step".into(), json!(step));
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |now| now.as_secs_f64());
        row.insert("time".into(), json!(time));
        let finite = || metrics.iter().filter(|(_, value)| value.is_finite());
        row.extend(finite().map(|(name, value)| (name.to_owned(), json!(value))));
        let values = finite().collect();
        self.events
            .write(stage, &Scalars { step, time, values })
            .map_err(TrainError::io("tensorboard"))?;
        let mut line = Value::Object(row).to_string();
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(TrainError::io("metrics.jsonl"))
    }
}

fn path(run: &Path) -> PathBuf {
    run.join("metrics.jsonl")
}

/// Which rows a run's files keep: asked with stage, step, and whether the row is an evaluation's.
pub type Keep<'a> = dyn Fn(&str, u64, bool) -> bool + 'a;

/// Cuts the file to the rows that `keep` keeps; a last line cut short by a kill goes too.
///
/// # Errors
/// Whatever the file system says.
pub fn cut(run: &Path, keep: &Keep) -> Result<(), TrainError> {
    cut_lines(&path(run), keep)
}

/// [`cut`] for any file of JSON rows with `stage` and `step`.
pub(crate) fn cut_lines(path: &Path, keep: &Keep) -> Result<(), TrainError> {
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read(path).map_err(TrainError::io(path))?;
    let text = String::from_utf8_lossy(&text);
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter(|line| {
            let row: Option<Value> = serde_json::from_str(line).ok();
            row.is_some_and(|row| match (row["stage"].as_str(), row["step"].as_u64()) {
                (Some(stage), Some(step)) => {
                    let names = row.as_object().into_iter().flat_map(Map::keys);
                    keep(
                        stage,
                        step,
                        names.into_iter().any(|name| keys::is_evaluation(name)),
                    )
                }
                _ => false,
            })
        })
        .collect();
    crate::files::write_whole(path, kept.as_bytes())
}
