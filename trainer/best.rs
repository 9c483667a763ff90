//! Which of a stage's checkpoints is its best: a small file beside them names it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::BestMode;
use crate::{TrainError, files};

/// The file, within a stage's folder of checkpoints.
const FILE: &str = "best.json";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NamedBest {
    /// The checkpoint's folder beside the file.
    pub(crate) checkpoint: String,
    /// The step after which it was evaluated.
    pub(crate) step: u64,
    /// The metric.
    pub(crate) metric: String,
    /// What is better.
    pub(crate) mode: BestMode,
    /// The metric's value.
    pub(crate) value: f64,
}

impl NamedBest {
    /// What the file in a stage's `folder` says; `None` without one that can be read.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| TrainError::Other(error.to_string()))?;
        files::write_whole(&folder.join(FILE), format!("{text}\n").as_bytes())
    }
}

/// Removes the file in `folder` where the checkpoint that it names is not there, or it cannot be read.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn forget_lost(folder: &Path) -> Result<(), TrainError> {
    let path = folder.join(FILE);
    let there = |best: NamedBest| folder.join(best.checkpoint).is_dir();
    if path.exists() && !NamedBest::read(folder).is_some_and(there) {
        fs::remove_file(&path).map_err(TrainError::io(&path))?;
    }
    Ok(())
}

/// The best checkpoint of a stage of the run in `run`, where `checkpoint.best` had one kept.
pub fn best_checkpoint(run: &Path, stage: &str) -> Option<PathBuf> {
    let folder = run.join("checkpoints").join(stage);
    let best = NamedBest::read(&folder)?;
    Some(folder.join(best.checkpoint)).filter(|path| path.is_dir())
}
