//! What a run folder holds of checkpoints, by their names.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::config::Config;

/// Where a run continues, found and verified.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Whether the folder was made from another run just now.
    pub(crate) copied: bool,
    /// What people should know.
    pub(crate) notices: Vec<String>,
}

/// A checkpoint folder by name alone, not yet opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Place of its stage in the config, then its step (`final` after a step's own folder).
    pub(crate) order: (usize, u64),
    pub(crate) path: PathBuf,
}

/// Where a stage's checkpoints are in a run folder.
pub(crate) fn stage_folder(run: &Path, stage: &str) -> PathBuf {
    run.join("checkpoints").join(stage)
}

/// Where a run keeps the weights that a stage's adapters stand beside, where no plain folder holds them.
pub(crate) fn lora_base(run: &Path, stage: &str) -> PathBuf {
    run.join("lora_base").join(stage)
}

/// The run's checkpoint folders, oldest first.
pub(crate) fn found(run: &Path, config: &Config) -> Vec<Found> {
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
                all.push(Found {
                    order: (index, step),
                    path: entry.path(),
                });
            }
        }
    }
    all.sort_by_key(|found| (found.order, found.path.ends_with("final")));
    all
}

/// The name of the checkpoint in a stage's `folder` that is of `step`, where there is one.
pub(crate) fn checkpoint_of(folder: &Path, step: u64) -> Option<String> {
    let own = format!("step_{step:06}");
    if folder.join(&own).is_dir() {
        return Some(own);
    }
    let last = recorded_step(&folder.join("final"));
    last.filter(|last| *last == step).map(|_| "final".into())
}

/// The step a checkpoint says it is of; `None` when its state cannot be read.
fn recorded_step(folder: &Path) -> Option<u64> {
    let text = std::fs::read(folder.join("trainer/state.json")).ok()?;
    serde_json::from_slice::<Value>(&text).ok()?["step"].as_u64()
}

/// Whether `run` has a checkpoint of any stage.
fn has_checkpoint(run: &Path) -> bool {
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

/// Whether `run` holds anything of a run: a checkpoint, or a row of metrics.
pub(crate) fn holds_run(run: &Path) -> bool {
    let rows = std::fs::metadata(run.join("metrics.jsonl"));
    has_checkpoint(run) || rows.is_ok_and(|rows| rows.len() > 0)
}
