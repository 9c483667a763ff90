//! A run of its own from another run's checkpoint: what that run wrote up to there is copied, the stages before it
//! included, so that the new folder has neither a gap nor anything of the other run's later steps.

use std::fs;
use std::path::{Path, PathBuf};

use super::changes::{Continued, record, recorded};
use super::cut::keeps;
use super::found::{Chosen, lora_base, stage_folder};
use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, StageConfig};
use crate::files::{self, real};
use crate::{metrics, samples};

/// How far a run folder is a copy of another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// It is none from that checkpoint.
    No,
    /// A kill cut the copying short.
    Partly,
    /// It is.
    Wholly,
}

impl Copied {
    /// Of `run` from the checkpoint at `path`.
    pub(super) fn of(run: &Path, path: &Path) -> Self {
        let path = real(path);
        let from = path.display().to_string();
        let copied = |line: Continued| line.copied && line.from == from;
        if !recorded(run).into_iter().any(copied) {
            return Self::No;
        }
        let stage = files::parent(&path).file_name().unwrap_or_default();
        let stage = run.join("checkpoints").join(stage);
        let entries = fs::read_dir(stage).into_iter().flatten().flatten();
        let named = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
        match entries.into_iter().any(|entry| named(&entry)) {
            true => Self::Wholly,
            false => Self::Partly,
        }
    }
}

/// The run folder that a checkpoint lies in, where it lies in one.
fn run_of(checkpoint: &Checkpoint) -> Option<PathBuf> {
    let path = real(&checkpoint.path);
    let stage = path.parent()?;
    let all = stage.parent()?;
    let here = stage.ends_with(&checkpoint.state.stage) && all.ends_with("checkpoints");
    here.then(|| all.parent().map(Path::to_owned)).flatten()
}

/// Copies the run of `checkpoint` up to there into `run`, which holds none.
///
/// # Errors
/// A damaged checkpoint of an earlier stage; whatever the file system says.
pub(super) fn copy_run(
    checkpoint: &Checkpoint,
    config: &Config,
    run: &Path,
) -> Result<Chosen, TrainError> {
    let state = &checkpoint.state;
    let path = real(&checkpoint.path);
    let mut notices = vec![format!(
        "a run of its own from {}, step {} of `{}`",
        checkpoint.path.display(),
        state.step,
        state.stage
    )];
    files::make_folder(run)?;
    record(run, &path, &[], true)?;
    match run_of(checkpoint) {
        Some(from) => {
            for stage in &config.stages[..state.stage_index] {
                let last = stage_folder(&from, stage.name()).join("final");
                let whole = Checkpoint::open(&last)?;
                copy_checkpoint(&whole.path, &stage_folder(run, stage.name()))?;
            }
            let keep = keeps(config, Some(checkpoint));
            metrics::copy(&from, run, &keep)?;
            samples::copy(&from, run, &keep)?;
            copy_prepared(&from, run, &config.stages[..=state.stage_index])?;
        }
        None => notices.push(format!(
            "{} lies in no run folder: metrics and samples begin after its step",
            checkpoint.path.display()
        )),
    }
    // The checkpoint itself comes last: a copy that a kill cut short is made again.
    let copy = copy_checkpoint(&path, &stage_folder(run, &state.stage))?;
    Ok(Chosen {
        checkpoint: Some(Checkpoint::open(&copy)?),
        copied: true,
        notices,
    })
}

/// Gives the `final` of a stage's `folder`, which is of `step`, a second name that the next `final` does not take.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn keep_final(folder: &Path, step: u64) -> Result<(), TrainError> {
    let name = format!("step_{step:06}");
    copy_as(&folder.join("final"), folder, &name).map(drop)
}

/// Copies what stages had made before their first step: their pairs, what the reference policy said, and the weights
/// that adapters stand beside.
fn copy_prepared(from: &Path, run: &Path, stages: &[StageConfig]) -> Result<(), TrainError> {
    for stage in stages {
        let [source, target] = [from, run].map(|run| lora_base(run, stage.name()));
        if source.is_dir() && !target.exists() {
            files::make_folder(files::parent(&target))?;
            files::copy_folder(&source, &target)?;
        }
    }
    for folder in ["pairs", "reference"] {
        for stage in stages {
            for end in ["jsonl", "jsonl.made.json"] {
                let name = format!("{}.{end}", stage.name());
                let (source, target) = (from.join(folder), run.join(folder));
                if source.join(&name).is_file() {
                    files::make_folder(&target)?;
                    files::copy_file(&source.join(&name), &target.join(&name))?;
                }
            }
        }
    }
    Ok(())
}

fn copy_checkpoint(from: &Path, stage: &Path) -> Result<PathBuf, TrainError> {
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    copy_as(from, stage, &name)
}

fn copy_as(from: &Path, stage: &Path, name: &str) -> Result<PathBuf, TrainError> {
    files::make_folder(stage)?;
    let hidden = format!(".{name}.partial");
    let (aside, to) = (stage.join(hidden), stage.join(name));
    if to.exists() {
        return Ok(to);
    }
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(TrainError::io(&aside))?;
    }
    files::copy_folder(from, &aside)?;
    fs::rename(&aside, &to).map_err(TrainError::io(&to))?;
    files::sync_folder(stage).map_err(TrainError::io(stage))?;
    Ok(to)
}
