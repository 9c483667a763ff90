//! Cutting a run's files back to the checkpoint that it continues from: no gap, no repeated step.

use std::path::Path;

use super::found::{found, stage_folder};
use crate::TrainError;
use crate::best::forget_lost;
use crate::checkpoint::{Checkpoint, remove, sweep};
use crate::config::Config;
use crate::files::{self, real};
use crate::{metrics, samples};

/// Cuts metrics, samples and later checkpoints of `run` back to `checkpoint`, or to nothing; says what of
/// the steps before it is missing.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn cut_back(
    run: &Path,
    config: &Config,
    checkpoint: Option<&Checkpoint>,
) -> Result<Option<String>, TrainError> {
    let at = checkpoint.map(|checkpoint| (checkpoint.state.stage_index, checkpoint.state.step));
    let keep = keeps(config, checkpoint);
    // Checkpoints first, the newest first: a kill in between leaves a run that can be cut again.
    for later in found(run, config).into_iter().rev() {
        let same = checkpoint.is_some_and(|checkpoint| real(&checkpoint.path) == real(&later.path));
        let (index, step) = later.order;
        let earlier = at.is_some_and(|at| (index, step) <= at);
        if !same && !earlier {
            remove(&later.path)?;
        }
    }
    for stage in &config.stages {
        let folder = stage_folder(run, stage.name());
        sweep(&folder)?;
        forget_lost(&folder)?;
    }
    files::sweep(run);
    let rows = metrics::cut(run, &keep)?;
    samples::cut(run, &keep)?;
    let lacks = checkpoint.and_then(|checkpoint| {
        let state = &checkpoint.state;
        let steps = rows.steps_of(&state.stage);
        (steps < state.step).then(|| {
            format!(
                "metrics.jsonl lacks {} of the {} steps of `{}` before the checkpoint",
                state.step - steps,
                state.step,
                state.stage
            )
        })
    });
    Ok(lacks)
}

/// Which rows a run keeps that continues from `checkpoint`: asked with stage, step, and whether the row is an
/// evaluation's.
pub(super) fn keeps<'a>(
    config: &'a Config,
    checkpoint: Option<&'a Checkpoint>,
) -> impl Fn(&str, u64, bool) -> bool + 'a {
    let at = checkpoint.map(|checkpoint| (checkpoint.state.stage_index, checkpoint.state.step));
    let owed = checkpoint.is_some_and(|checkpoint| checkpoint.state.evaluation_owed);
    move |stage: &str, step: u64, evaluation: bool| {
        let index = config.stages.iter().position(|known| known.name() == stage);
        // An evaluation that a signal cut short is made anew.
        let again = |at| owed && evaluation && (index, step) == at;
        match (index, at) {
            (Some(index), Some(at)) => (index, step) <= at && !again((Some(at.0), at.1)),
            _ => false,
        }
    }
}
