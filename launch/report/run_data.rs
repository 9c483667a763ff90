//! What a page reads of a run folder: metrics, what the logs warn of, and samples of some steps.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value};
use trainer::metrics::keys;

use super::error::ReportError;
use super::rows::{self, ReportRow, read};

/// Training steps of a stage whose samples are read.
const MOST_STEPS: usize = 6;
/// Evaluations of a set whose samples are read.
const MOST_EVALUATIONS: usize = 12;
/// Warnings shown at most.
const MOST_WARNINGS: usize = 20;

/// A run folder's content.
#[derive(Debug)]
pub(super) struct ReportRun {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) environment: Map<String, Value>,
    pub(super) stages: Vec<ReportStage>,
    /// Evaluations by the name of their set, in the order of the run.
    pub(super) sets: IndexMap<String, Vec<EvaluationRows>>,
    /// What its ranks' logs warn of.
    pub(super) warnings: Vec<String>,
}

/// Points of metrics by their names: step within the stage, value.
pub(super) type Curves = IndexMap<String, Vec<(f64, f64)>>;

/// One stage, in the order of its first row.
#[derive(Debug, Default)]
pub(super) struct ReportStage {
    pub(super) name: String,
    pub(super) curves: Curves,
    /// Held-out metrics (keys `eval/...`).
    pub(super) evals: Curves,
    /// Steps of each held-out set's evaluations.
    pub(super) evaluated: IndexMap<String, Vec<f64>>,
    pub(super) steps: u64,
    /// First and last `time`, Unix seconds.
    pub(super) span: Option<(f64, f64)>,
    /// Samples of some training steps.
    pub(super) samples: Vec<(u64, Vec<ReportRow>)>,
}

/// One evaluation's completions.
#[derive(Debug)]
pub(super) struct EvaluationRows {
    pub(super) stage: String,
    pub(super) step: u64,
    pub(super) rows: Vec<ReportRow>,
}

impl ReportRun {
    /// Reads a run folder.
    ///
    /// # Errors
    /// A folder without metrics, a malformed line, what the file system says.
    pub(super) fn read(folder: &Path) -> Result<Self, ReportError> {
        let metrics = folder.join("metrics.jsonl");
        if !metrics.is_file() {
            return Err(ReportError::NotARun(folder.to_owned()));
        }
        let mut stages: Vec<ReportStage> = Vec::new();
        for row in read::<Value>(&metrics)? {
            let name = row.get("stage").and_then(Value::as_str).unwrap_or_default();
            let at = stages.iter().position(|stage| stage.name == name);
            let at = at.unwrap_or_else(|| {
                stages.push(ReportStage {
                    name: name.to_owned(),
                    ..Default::default()
                });
                stages.len() - 1
            });
            stages[at].add(&row);
        }
        let mut sets: IndexMap<String, Vec<(String, u64, PathBuf)>> = IndexMap::new();
        for stage in &mut stages {
            let folder = folder.join("samples").join(&stage.name);
            for (step, path) in rows::spread(rows::steps(&folder), MOST_STEPS) {
                stage.samples.push((step, read(&path)?));
            }
            for (set, folder) in rows::sets(&folder.join("eval")) {
                let files = rows::steps(&folder).into_iter();
                let files = files.map(|(step, path)| (stage.name.clone(), step, path));
                sets.entry(set).or_default().extend(files);
            }
        }
        let mut read_sets = IndexMap::new();
        for (set, files) in sets {
            let evaluations: Result<Vec<_>, ReportError> = rows::spread(files, MOST_EVALUATIONS)
                .into_iter()
                .map(|(stage, step, path)| {
                    let rows = read(&path)?;
                    Ok(EvaluationRows { stage, step, rows })
                })
                .collect();
            read_sets.insert(set, evaluations?);
        }
        let environment = std::fs::read_to_string(folder.join("environment.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let name = whole.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self {
            name: name.into_owned(),
            folder: folder.to_owned(),
            environment,
            stages,
            sets: read_sets,
            warnings: warnings(&folder.join("logs")),
        })
    }

    /// The training steps before a stage begins.
    pub(super) fn offset(&self, stage: &str) -> u64 {
        let before = self.stages.iter().take_while(|one| one.name != stage);
        before.map(|stage| stage.steps).sum()
    }

    /// Names of the tasks that the metrics and samples name, in the order they come.
    pub(super) fn tasks(&self) -> Vec<String> {
        let mut tasks: Vec<String> = Vec::new();
        let mut add = |task: &str| {
            if !task.is_empty() && !tasks.iter().any(|known| known == task) {
                tasks.push(task.to_owned());
            }
        };
        for key in self
            .stages
            .iter()
            .flat_map(|stage| stage.curves.keys().chain(stage.evals.keys()))
        {
            let metric = keys::of_held_out(key).map_or(key.as_str(), |(_, metric)| metric);
            if keys::declared(metric) == Some(&keys::REWARD_TASK) {
                keys::REWARD_TASK.names(metric).for_each(&mut add);
            }
        }
        tasks
    }
}

impl ReportStage {
    fn add(&mut self, row: &Value) {
        let number = |key| row.get(key).and_then(Value::as_f64);
        let step = number("step").unwrap_or(0.0);
        if let Some(time) = number("time") {
            let first = self.span.map_or(time, |(first, _)| first);
            self.span = Some((first, time));
        }
        for (key, value) in row.as_object().into_iter().flatten() {
            if let Some((set, _)) = keys::of_held_out(key) {
                let steps = self.evaluated.entry(set.to_owned()).or_default();
                if steps.last() != Some(&step) {
                    steps.push(step);
                }
            }
            let Some(value) = value.as_f64().filter(|value| value.is_finite()) else {
                continue;
            };
            if key == "step" || key == "time" {
                continue;
            }
            let place = match keys::is_evaluation(key) {
                true => &mut self.evals,
                false => {
                    self.steps = self.steps.max(step as u64);
                    &mut self.curves
                }
            };
            place.entry(key.clone()).or_default().push((step, value));
        }
    }

    /// A held-out metric's value in the stage's first evaluation and in its last one: none where that evaluation does
    /// not have it, and no first one where there is one evaluation alone.
    pub(super) fn first_and_last(&self, key: &str) -> (Option<f64>, Option<f64>) {
        let steps = keys::of_held_out(key).and_then(|(set, _)| self.evaluated.get(set));
        let (Some(points), Some(steps)) = (self.evals.get(key), steps) else {
            return (None, None);
        };
        let at = |step: Option<&f64>| {
            let step = step?;
            let found = points.iter().rev().find(|(at, _)| at == step);
            found.map(|(_, value)| *value)
        };
        match steps.len() {
            1 => (None, at(steps.last())),
            _ => (at(steps.first()), at(steps.last())),
        }
    }
}

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
