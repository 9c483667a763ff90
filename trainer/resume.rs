//! Which checkpoint a run continues from, and cutting its files back to it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::{Checkpoint, remove, sweep};
use crate::config::Config;
use crate::tensorboard::EventLog;
use crate::{TrainError, metrics, samples};

/// A checkpoint folder by name alone, not yet opened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FoundCheckpoint {
    /// Place of its stage in the config, then its step (`final` after a step's own folder).
    order: (usize, u64),
    path: PathBuf,
}

/// Where a stage's checkpoints are in a run folder.
pub(crate) fn stage_folder(run: &Path, stage: &str) -> PathBuf {
    run.join("checkpoints").join(stage)
}

/// The run's checkpoint folders, oldest first.
fn found(run: &Path, config: &Config) -> Vec<FoundCheckpoint> {
    let mut all = Vec::new();
    for (index, stage) in config.stages.iter().enumerate() {
        let folder = stage_folder(run, stage.name());
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let step = match name.as_str() {
                "final" => Some(recorded_step(&entry.path()).unwrap_or(u64::MAX)),
                _ => name
                    .strip_prefix("step_")
                    .and_then(|step| step.parse().ok()),
            };
            if let Some(step) = step.filter(|_| entry.path().is_dir()) {
                all.push(FoundCheckpoint {
                    order: (index, step),
                    path: entry.path(),
                });
            }
        }
    }
    all.sort_by_key(|found| (found.order, found.path.ends_with("final")));
    all
}

/// The step a checkpoint says it is of; `None` when its state cannot be read.
fn recorded_step(folder: &Path) -> Option<u64> {
    let text = std::fs::read(folder.join("trainer/state.json")).ok()?;
    serde_json::from_slice::<Value>(&text).ok()?["step"].as_u64()
}

/// Whether `run` has a checkpoint of any stage.
pub fn has_checkpoint(run: &Path) -> bool {
    let entries = |path: &Path| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    entries(&run.join("checkpoints")).any(|stage| {
        entries(&stage).any(|path| {
            path.file_name()
                .is_some_and(|name| !name.to_string_lossy().starts_with('.'))
        })
    })
}

/// The newest checkpoint of `run`, verified; `None` if it has none.
///
/// # Errors
/// A damaged newest checkpoint: its part is named and the previous whole one offered.
pub fn newest(run: &Path, config: &Config) -> Result<Option<Checkpoint>, TrainError> {
    let mut all = found(run, config);
    let Some(last) = all.pop() else {
        return Ok(None);
    };
    Checkpoint::open(&last.path).map(Some).map_err(|error| {
        let whole = all
            .iter()
            .rev()
            .find(|found| Checkpoint::open(&found.path).is_ok());
        let offer = match whole {
            Some(whole) => format!(
                "the previous whole one is {}: continue from it with --resume {}",
                whole.path.display(),
                whole.path.display()
            ),
            None => "there is no whole one before it: start over with --resume never".into(),
        };
        TrainError::Input(format!("{error}; {offer}"))
    })
}

/// Cuts metrics, samples and later checkpoints of `run` back to `checkpoint`, or to nothing.
///
/// # Errors
/// Whatever the file system says.
pub fn cut_back(
    run: &Path,
    config: &Config,
    checkpoint: Option<&Checkpoint>,
) -> Result<(), TrainError> {
    let at = checkpoint.map(|checkpoint| (checkpoint.state.stage_index, checkpoint.state.step));
    let owed = checkpoint.is_some_and(|checkpoint| checkpoint.state.evaluation_owed);
    let keep = |stage: &str, step: u64, evaluation: bool| {
        let index = config.stages.iter().position(|known| known.name() == stage);
        // An evaluation that a signal cut short is made anew.
        let again = |at| owed && evaluation && (index, step) == at;
        match (index, at) {
            (Some(index), Some(at)) => (index, step) <= at && !again((Some(at.0), at.1)),
            _ => false,
        }
    };
    // Checkpoints first, the newest first: a kill in between leaves a run that can be cut again.
    for later in found(run, config).into_iter().rev() {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let same = checkpoint.is_some_and(|checkpoint| real(&checkpoint.path) == real(&later.path));
        let (index, step) = later.order;
        let earlier = at.is_some_and(|at| (index, step) <= at);
        if !same && !earlier {
            remove(&later.path)?;
        }
    }
    for stage in &config.stages {
        sweep(&stage_folder(run, stage.name()))?;
    }
    metrics::cut(run, &keep)?;
    samples::cut(run, &keep)?;
    let mut events = EventLog::new(run.join("tensorboard"));
    for (index, stage) in config.stages.iter().enumerate() {
        let cut = match at {
            Some((last, _)) if index < last => Ok(()),
            Some((last, step)) if index == last => events.cut_after(stage.name(), step, !owed),
            _ => events.remove(stage.name()),
        };
        cut.map_err(TrainError::io(run.join("tensorboard")))?;
    }
    Ok(())
}

/// Keys that may differ between a run and its continuation: how long, how often, where.
fn may_change(key: &str) -> bool {
    const LAST: [&str; 13] = [
        "steps",
        "every",
        "keep_last",
        "keep_every",
        "at_end",
        "path",
        "media_root",
        "tokenizer",
        "output_dir",
        "threads",
        "grace_s",
        "peak_tflops",
        "workers",
    ];
    let last = key.rsplit('.').next().unwrap_or(key);
    // Where scoring runs does not change its numbers: a service is refused when it would.
    let place = ["rewards.endpoint", "rewards.remote.", "rewards.service."];
    if place.iter().any(|start| key.starts_with(start)) {
        return true;
    }
    LAST.contains(&last) && !key.ends_with("schedule.every") || matches!(key, "device" | "name")
}

/// Dotted keys at which two resolved configs differ and a continuation must not. Keys that did not
/// exist when the run was started have their defaults in it.
pub fn forbidden_changes(before: &Value, now: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let filled = |config: &Value| {
        let typed = serde_json::from_value::<Config>(config.clone());
        typed.and_then(serde_json::to_value)
    };
    match (filled(before), filled(now)) {
        (Ok(before), Ok(now)) => compare("", &before, &now, &mut out),
        _ => compare("", before, now, &mut out),
    }
    out.retain(|change| !may_change(change.split(':').next().unwrap_or(change)));
    out
}

fn compare(key: &str, before: &Value, now: &Value, out: &mut Vec<String>) {
    let child = |name: &str| {
        if key.is_empty() {
            name.to_owned()
        } else {
            format!("{key}.{name}")
        }
    };
    match (before, now) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                compare(
                    &child(name),
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&child(&index.to_string()), a, b, out);
            }
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        _ if before == now => {}
        _ => out.push(format!("{key}: was {before}, is {now}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_scoring_runs_may_change() {
        let before =
            json!({"rewards": {"endpoint": null, "remote": {"batch": 32}, "deadline_ms": 2}});
        let mut now = before.clone();
        now["rewards"]["endpoint"] = json!("http://a:1");
        now["rewards"]["remote"]["batch"] = json!(8);
        assert!(forbidden_changes(&before, &now).is_empty());
        now["rewards"]["deadline_ms"] = json!(3);
        assert_eq!(forbidden_changes(&before, &now).len(), 1);
    }

    #[test]
    fn only_length_cadence_and_places_may_change() {
        let before = json!({"seed": 0, "stages": [{"steps": 5, "optimizer": {"learning_rate": 0.1, "schedule": {"type": "step", "every": 3}}, "checkpoint": {"every": 2}}]});
        let mut now = before.clone();
        now["stages"][0]["steps"] = json!(9);
        now["stages"][0]["checkpoint"]["every"] = json!(1);
        assert!(forbidden_changes(&before, &now).is_empty());
        now["seed"] = json!(1);
        now["stages"][0]["optimizer"]["schedule"]["every"] = json!(4);
        assert_eq!(
            forbidden_changes(&before, &now),
            [
                "seed: was 0, is 1",
                "stages.0.optimizer.schedule.every: was 3, is 4"
            ]
        );
    }
}
