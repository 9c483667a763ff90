//! Which checkpoint a run continues from.

mod aside;
mod changes;
mod cut;
mod fork;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::TrainError;
use crate::checkpoint::{Checkpoint, recover};
use crate::config::Config;
use crate::files::real;

pub use aside::move_aside;
pub(crate) use changes::{Comparison, record};
pub use changes::{decisive, differing_ranks};
pub(crate) use cut::cut_back;
use fork::Copied;

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

/// The step a checkpoint says it is of; `None` when its state cannot be read.
fn recorded_step(folder: &Path) -> Option<u64> {
    let text = std::fs::read(folder.join("trainer/state.json")).ok()?;
    serde_json::from_slice::<Value>(&text).ok()?["step"].as_u64()
}

/// Whether `run` has a checkpoint of any stage.
pub(crate) fn has_checkpoint(run: &Path) -> bool {
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
pub fn holds_run(run: &Path) -> bool {
    let rows = std::fs::metadata(run.join("metrics.jsonl"));
    has_checkpoint(run) || rows.is_ok_and(|rows| rows.len() > 0)
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
