//! What is known of a watched run, read again as its files grow.

use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;
use trainer::metrics::{Metric, keys};

/// Steps that the pace is a mean of.
const PACE: usize = 20;
/// Samples that are kept of the newest file.
const SAMPLES: usize = 8;

/// A run that is followed.
#[derive(Debug, Default)]
pub struct WatchedRun {
    folder: PathBuf,
    /// Bytes of metrics.jsonl that are read.
    read: u64,
    /// Name and steps of each stage of the config.
    plan: Vec<(String, u64)>,
    pub(super) stages: Vec<WatchedStage>,
    pub(super) samples: Vec<WatchedSample>,
    /// The newest file of samples.
    newest: Option<PathBuf>,
    /// Unix time of the last row.
    pub(super) last: f64,
}

/// A stage that has begun.
#[derive(Debug, Default)]
pub(super) struct WatchedStage {
    pub(super) name: String,
    pub(super) step: u64,
    /// Points of each metric, held-out ones among them.
    pub(super) points: IndexMap<String, Vec<(f64, f64)>>,
}

/// A completion in two lines.
#[derive(Debug, Default, PartialEq)]
pub(super) struct WatchedSample {
    pub(super) asked: String,
    pub(super) text: String,
    pub(super) total: Option<f64>,
    /// Of an answer that was learnt from.
    pub(super) loss: Option<f64>,
    pub(super) reason: Option<String>,
}

impl WatchedRun {
    /// The run in `folder`, as far as it is.
    ///
    /// # Errors
    /// A folder that is no run's.
    pub fn of(folder: &Path) -> Result<Self, String> {
        if !folder.join("config.resolved.yaml").is_file() {
            return Err(format!(
                "{} is no run folder: it has no config.resolved.yaml",
                folder.display()
            ));
        }
        let text = std::fs::read_to_string(folder.join("config.resolved.yaml")).unwrap_or_default();
        let config: Value = serde_saphyr::from_str(&text).unwrap_or_default();
        let stages = config["stages"].as_array().into_iter().flatten();
        let plan = stages.filter_map(|stage| {
            let name = stage["name"].as_str()?.to_owned();
            Some((name, stage["steps"].as_u64().unwrap_or(0)))
        });
        let mut run = Self {
            folder: folder.to_owned(),
            plan: plan.collect(),
            ..Self::default()
        };
        run.refresh();
        Ok(run)
    }

    /// Reads what has come since; a file that has become shorter (a resumed run) is read anew.
    pub fn refresh(&mut self) {
        let path = self.folder.join("metrics.jsonl");
        let Ok(mut file) = std::fs::File::open(&path) else {
            return;
        };
        if file.metadata().is_ok_and(|data| data.len() < self.read) {
            self.read = 0;
            self.stages.clear();
        }
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            // The rest of a line that is being written comes with the next look.
            if !line.ends_with('\n') {
                break;
            }
            self.read += line.len() as u64;
            if let Ok(row) = serde_json::from_str::<Value>(&line) {
                self.add(&row);
            }
            line.clear();
        }
        self.look_at_samples();
    }

    fn add(&mut self, row: &Value) {
        let name = row["stage"].as_str().unwrap_or_default();
        let step = row["step"].as_u64().unwrap_or(0);
        if self.stages.last().is_none_or(|stage| stage.name != name) {
            self.stages.push(WatchedStage {
                name: name.to_owned(),
                ..WatchedStage::default()
            });
        }
        self.last = row["time"].as_f64().unwrap_or(self.last);
        let Some(stage) = self.stages.last_mut() else {
            return;
        };
        stage.step = stage.step.max(step);
        for (name, value) in row.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64().filter(|_| name.contains('/')) {
                let points = stage.points.entry(name.clone()).or_default();
                points.push((step as f64, value));
            }
        }
    }

    fn look_at_samples(&mut self) {
        let Some(stage) = self.stages.last() else {
            return;
        };
        let folder = self.folder.join("samples").join(&stage.name);
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        let newest = files
            .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
            .max();
        if newest.is_none() || newest == self.newest {
            return;
        }
        let text = newest
            .as_ref()
            .and_then(|path| std::fs::read_to_string(path).ok());
        self.newest = newest;
        let text = text.unwrap_or_default();
        let rows = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        self.samples = rows
            .take(SAMPLES)
            .map(|row| WatchedSample::of(&row))
            .collect();
    }

    /// Steps that the present stage has, where the config says.
    pub(super) fn planned(&self) -> Option<u64> {
        let stage = self.stages.last()?;
        let planned = self.plan.iter().find(|(name, _)| *name == stage.name);
        planned.map(|(_, steps)| *steps).filter(|steps| *steps > 0)
    }

    /// Steps of the stages that have not begun.
    pub(super) fn later(&self) -> u64 {
        let begun = |name: &String| self.stages.iter().any(|stage| stage.name == *name);
        let later = self.plan.iter().filter(|(name, _)| !begun(name));
        later.map(|(_, steps)| steps).sum()
    }

    /// Seconds of one of the last steps.
    pub(super) fn pace(&self) -> Option<f64> {
        let stage = self.stages.last()?;
        let points = stage.points.get(keys::TIME_STEP.name)?;
        let last = &points[points.len().saturating_sub(PACE)..];
        Some(last.iter().map(|(_, seconds)| seconds).sum::<f64>() / last.len().max(1) as f64)
    }

    /// Seconds until the stage is done, at the pace of its last steps.
    pub(super) fn left(&self) -> Option<f64> {
        let left = self.planned()?.saturating_sub(self.stages.last()?.step);
        Some(self.pace()? * left as f64)
    }

    /// The last value of a metric in the present stage.
    pub(super) fn value(&self, metric: &Metric) -> Option<f64> {
        let points = self.stages.last()?.points.get(metric.name)?;
        points.last().map(|(_, value)| *value)
    }
}

impl WatchedSample {
    fn of(row: &Value) -> Self {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        Self {
            asked: match text("reward_prompt") {
                empty if empty.is_empty() => text("prompt"),
                asked => asked,
            },
            text: text("completion"),
            total: row["total"].as_f64(),
            loss: row["loss"].as_f64(),
            reason: row["reason"].as_str().map(str::to_owned),
        }
    }
}
