//! What the report reads of a run folder: metrics and the first and last samples of each
//! stage. A last line that a running trainer has not finished is passed over.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value};
use trainer::metrics::keys;

use super::error::ReportError;

/// A run folder's content.
#[derive(Debug)]
pub(super) struct RunData {
    pub(super) name: String,
    pub(super) environment: Map<String, Value>,
    pub(super) stages: Vec<StageData>,
    /// What its ranks' logs warn of.
    pub(super) warnings: Vec<String>,
}

/// One stage, in the order of its first row.
#[derive(Debug, Default)]
pub(super) struct StageData {
    pub(super) name: String,
    /// Points of each training metric, by step.
    pub(super) curves: IndexMap<String, Vec<(f64, f64)>>,
    /// Points of each held-out metric (keys `eval/...`), by step.
    pub(super) evals: IndexMap<String, Vec<(f64, f64)>>,
    pub(super) steps: u64,
    /// First and last `time`, Unix seconds.
    pub(super) span: Option<(f64, f64)>,
    /// Step and rows of the first and of the last samples file; one when there is one.
    pub(super) samples: Vec<(u64, Vec<Value>)>,
    /// Name, step and rows of each held-out set's last evaluation.
    pub(super) held_out: Vec<(String, u64, Vec<Value>)>,
}

impl RunData {
    pub(super) fn read(folder: &Path) -> Result<Self, ReportError> {
        let metrics = folder.join("metrics.jsonl");
        if !metrics.is_file() {
            return Err(ReportError::NotARun(folder.to_owned()));
        }
        let mut stages: Vec<StageData> = Vec::new();
        for row in rows(&metrics)? {
            let name = row.get("stage").and_then(Value::as_str).unwrap_or_default();
            let at = stages.iter().position(|stage| stage.name == name);
            let at = at.unwrap_or_else(|| {
                stages.push(StageData {
                    name: name.to_owned(),
                    ..Default::default()
                });
                stages.len() - 1
            });
            stages[at].add(&row);
        }
        for stage in &mut stages {
            let samples_folder = folder.join("samples").join(&stage.name);
            stage.samples = samples(&samples_folder)?;
            stage.held_out = held_out(&samples_folder.join("eval"))?;
        }
        let environment = std::fs::read_to_string(folder.join("environment.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let name = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        Ok(Self {
            name: name
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            environment,
            stages,
            warnings: warnings(&folder.join("logs")),
        })
    }
}

impl StageData {
    fn add(&mut self, row: &Value) {
        let number = |key| row.get(key).and_then(Value::as_f64);
        let step = number("step").unwrap_or(0.0);
        if let Some(time) = number("time") {
            let first = self.span.map_or(time, |(first, _)| first);
            self.span = Some((first, time));
        }
        for (key, value) in row.as_object().into_iter().flatten() {
            let Some(value) = value.as_f64().filter(|value| value.is_finite()) else {
                continue;
            };
            if key == "step" || key == "time" {
                continue;
            }
            let (place, training) = match keys::is_evaluation(key) {
                true => (&mut self.evals, false),
                false => (&mut self.curves, true),
            };
            place.entry(key.clone()).or_default().push((step, value));
            if training {
                self.steps = self.steps.max(step as u64);
            }
        }
    }
}

/// Warnings shown at most.
const MOST_WARNINGS: usize = 20;

/// The warnings in the logs of all ranks, each once, the newest behind; none where there are no logs.
fn warnings(folder: &Path) -> Vec<String> {
    let logs = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut logs: Vec<PathBuf> = logs.map(|entry| entry.path()).collect();
    logs.sort();
    let mut found: Vec<String> = Vec::new();
    for log in logs {
        let Ok(file) = std::fs::File::open(&log) else {
            continue;
        };
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            // Most lines are none, and reading JSON takes long.
            if !line.contains("\"WARN\"") {
                continue;
            }
            let row: Value = serde_json::from_str(&line).unwrap_or_default();
            let message = row["message"].as_str().filter(|_| row["level"] == "WARN");
            if let Some(message) = message.filter(|said| !found.iter().any(|known| known == said)) {
                found.push(message.to_owned());
            }
        }
    }
    found.split_off(found.len().saturating_sub(MOST_WARNINGS))
}

/// Rows of a JSONL file; a broken last line is passed over, another one is an error.
fn rows(path: &Path) -> Result<Vec<Value>, ReportError> {
    let bytes = std::fs::read(path).map_err(|source| ReportError::File {
        path: path.to_owned(),
        source,
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut rows = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(row) => rows.push(row),
            Err(_) if line.trim().is_empty() || index + 1 == lines.len() => {}
            Err(error) => {
                return Err(ReportError::Line {
                    path: path.to_owned(),
                    line: index + 1,
                    problem: error.to_string(),
                });
            }
        }
    }
    Ok(rows)
}

/// The samples of each held-out set's last evaluation.
fn held_out(folder: &Path) -> Result<Vec<(String, u64, Vec<Value>)>, ReportError> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sets: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    sets.sort();
    let mut last = Vec::new();
    for set in sets {
        let name = set.file_name().unwrap_or_default().to_string_lossy();
        if let Some((step, rows)) = samples(&set)?.pop() {
            last.push((name.into_owned(), step, rows));
        }
    }
    Ok(last)
}

/// The samples of a stage's first and last step that have any.
fn samples(folder: &Path) -> Result<Vec<(u64, Vec<Value>)>, ReportError> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut files: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_str()?;
            let step = name.strip_prefix("step_")?.strip_suffix(".jsonl")?;
            Some((step.parse().ok()?, path))
        })
        .collect();
    files.sort();
    let mut chosen: Vec<_> = files.first().into_iter().chain(files.last()).collect();
    chosen.dedup();
    chosen
        .into_iter()
        .map(|(step, path)| Ok((*step, rows(path)?)))
        .collect()
}
