//! What a run writes as it goes: metrics, samples, checkpoints. Rank 0 writes, the others pass by.

use std::path::Path;

use super::best::BestTracker;
use super::evaluate::SetScores;
use super::observer::Observer;
use super::progress::{StageProgress, is_due};
use crate::TrainError;
use crate::best::NamedBest;
use crate::checkpoint::remove;
use crate::config::{StageCommon, StageConfig};
use crate::metrics::{AliasSet, Metrics, MetricsFile, keys};
use crate::resume::stage_folder;
use crate::samples;
use crate::step_samples::StepSamples;

/// A run folder that is being written.
pub(super) struct RunOutput<'a> {
    /// The run folder.
    pub(super) folder: &'a Path,
    /// On rank 0, once the run writes.
    metrics: Option<MetricsFile>,
    open: bool,
    aliases: &'a [AliasSet],
    /// Hears of what is written.
    pub(super) observer: &'a mut dyn Observer,
}

impl<'a> RunOutput<'a> {
    /// Of `folder`, which nothing is written to yet; metrics have the names of `aliases` too.
    pub(super) fn new(
        folder: &'a Path,
        aliases: &'a [AliasSet],
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self {
            aliases,
            folder,
            metrics: None,
            open: false,
            observer,
        }
    }

    /// Whether [`Self::open`] was called.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Opens the files for appending, on rank 0 (`leader`).
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn open(&mut self, leader: bool) -> Result<(), TrainError> {
        let file = leader.then(|| MetricsFile::open(self.folder)).transpose()?;
        self.metrics = file.map(|file| file.with_aliases(self.aliases));
        self.open = true;
        Ok(())
    }

    /// Makes what was written durable: the run is at its end.
    ///
    /// # Errors
    /// Whatever the file system says; a run folder that is no longer there.
    pub(super) fn end(&mut self) -> Result<(), TrainError> {
        self.metrics.as_mut().map_or(Ok(()), MetricsFile::sync)
    }

    /// Writes a finished step.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn step(
        &mut self,
        stage: &StageConfig,
        progress: &StageProgress,
        mut metrics: Metrics,
        rows: &StepSamples,
    ) -> Result<(), TrainError> {
        metrics.set(&keys::STEP, progress.step as f64);
        metrics.set(&keys::PROMPTS, progress.prompts as f64);
        metrics.set(&keys::TOKENS, progress.tokens as f64);
        if metrics
            .get(&keys::SKIPPED)
            .is_some_and(|skipped| skipped > 0.0)
        {
            self.observer.notice(&format!(
                "{} step {}: an update was refused: loss or gradient is not finite",
                stage.name(),
                progress.step
            ));
        }
        let Some(file) = &mut self.metrics else {
            return Ok(());
        };
        file.check_place()?;
        if stage.algorithm.options().writes_samples(progress.step) {
            rows.write(self.folder, stage.name(), progress.step)?;
        }
        file.write(stage.name(), progress.step, &metrics)?;
        self.observer.row(&stage.common, progress.step, &metrics);
        Ok(())
    }

    /// Writes an evaluation: its completions, then the rows of its metrics.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn evaluation(
        &mut self,
        stage: &StageCommon,
        step: u64,
        sets: &[SetScores],
    ) -> Result<(), TrainError> {
        let Some(file) = &mut self.metrics else {
            return Ok(());
        };
        file.check_place()?;
        for set in sets {
            let place = (stage.name.as_str(), set.name);
            let pictures = set.pictures.iter();
            let pictures = pictures.map(|kept| (kept.row, kept.png.as_slice()));
            samples::write_pictures(self.folder, place, step, pictures)?;
            samples::write_held_out(self.folder, place, step, &set.rows)?;
        }
        for set in sets {
            file.write(&stage.name, step, &set.metrics)?;
            self.observer.row(stage, step, &set.metrics);
        }
        Ok(())
    }

    /// On rank 0, after a checkpoint of the stage after `step` was written as `name`: names it where it is the best
    /// one, and removes those that are not to be kept.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn wrote_checkpoint(
        &mut self,
        stage: &StageCommon,
        (name, step): (&str, u64),
        best: Option<&BestTracker>,
    ) -> Result<(), TrainError> {
        let folder = stage_folder(self.folder, &stage.name);
        if let Some(best) = best {
            best.wrote(&folder, name, step)?;
        }
        self.prune(stage)?;
        self.observer.checkpoint(self.folder);
        Ok(())
    }

    /// Removes the stage's older checkpoints beyond those that are to be kept.
    fn prune(&self, stage: &StageCommon) -> Result<(), TrainError> {
        let folder = stage_folder(self.folder, &stage.name);
        let entries = std::fs::read_dir(&folder).map_err(TrainError::io(&folder))?;
        let mut steps: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .strip_prefix("step_")?
                    .parse()
                    .ok()
            })
            .collect();
        steps.sort_unstable();
        // Named by whatever asked for it.
        let best = NamedBest::read(&folder).map(|best| best.checkpoint);
        let is_best = |step: u64| best.as_ref() == Some(&format!("step_{step:06}"));
        let keep = &stage.checkpoint;
        let old = steps.len().saturating_sub(keep.keep_last);
        for step in steps
            .into_iter()
            .take(old)
            .filter(|step| !is_due(*step, keep.keep_every) && !is_best(*step))
        {
            remove(&folder.join(format!("step_{step:06}")))?;
        }
        Ok(())
    }
}
