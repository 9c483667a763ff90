//! Which checkpoint a run continues from.

mod aside;
mod changes;
mod cut;
mod fork;
mod found;

use std::path::{Path, PathBuf};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, recover};
use crate::config::Config;
use crate::files::real;

pub use aside::move_aside;
pub(crate) use changes::{Comparison, decisive, differing_processes, record};
pub(crate) use cut::cut_back;
use fork::Copied;
pub(crate) use fork::keep_final;
use found::found;
pub(crate) use found::{Chosen, checkpoint_of, holds_run, lora_base, stage_folder};

/// Where a run continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// From the newest checkpoint of the run folder, else from the start.
    Auto,
    /// From the start.
    Never,
    /// From this checkpoint of the run folder; or of another run, which is copied up to there into a folder that
    /// holds none.
    From(PathBuf),
}

/// The checkpoint of `run` to continue from.
///
/// # Errors
/// A damaged checkpoint; one of a stage that the config does not have there; one of another run where `run` holds
/// a run of its own.
pub(crate) fn choose(run: &Path, config: &Config, resume: &Resume) -> Result<Chosen, TrainError> {
    for stage in &config.stages {
        recover(&stage_folder(run, stage.name()))?;
    }
    let own = |checkpoint| Chosen {
        checkpoint,
        ..Chosen::default()
    };
    let chosen = match resume {
        Resume::Never => Chosen::default(),
        Resume::Auto => own(newest(run, config)?),
        Resume::From(path) if is_within(path, run) => own(Some(Checkpoint::open(path)?)),
        Resume::From(path) if Copied::of(run, path) == Copied::Wholly => {
            let mut chosen = own(newest(run, config)?);
            chosen.notices.push(format!(
                "{} began as a copy from {}: it continues from its own newest checkpoint",
                run.display(),
                path.display()
            ));
            chosen
        }
        Resume::From(path) => {
            let checkpoint = Checkpoint::open(path)?;
            check_stage(&checkpoint, config)?;
            if holds_run(run) && Copied::of(run, path) == Copied::No {
                return Err(TrainError::Input(format!(
                    "--resume {}: this checkpoint is not of the run in {}, which holds a run of its own: start a new run from the checkpoint with --resume {} --run-dir NEW (a folder without a run)",
                    path.display(),
                    run.display(),
                    path.display()
                )));
            }
            fork::copy_run(&checkpoint, config, run)?
        }
    };
    if let Some(checkpoint) = &chosen.checkpoint {
        check_stage(checkpoint, config)?;
    }
    Ok(chosen)
}

fn check_stage(checkpoint: &Checkpoint, config: &Config) -> Result<(), TrainError> {
    let stage = config.stages.get(checkpoint.state.stage_index);
    match stage.is_some_and(|stage| stage.name() == checkpoint.state.stage) {
        true => Ok(()),
        false => Err(TrainError::Input(format!(
            "checkpoint {} is of stage `{}`, which the config does not have at that place",
            checkpoint.path.display(),
            checkpoint.state.stage
        ))),
    }
}

/// Whether `path` lies among the checkpoints of `run`, or would if it were there.
fn is_within(path: &Path, run: &Path) -> bool {
    !path.exists() || real(path).starts_with(real(&run.join("checkpoints")))
}

/// The newest checkpoint of `run`, verified; `None` if it has none.
///
/// # Errors
/// A damaged newest checkpoint: its part is named and the previous whole one offered.
fn newest(run: &Path, config: &Config) -> Result<Option<Checkpoint>, TrainError> {
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
