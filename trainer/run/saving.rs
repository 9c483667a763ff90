//! A stage's checkpoints: begun after a step, written by a thread while the next steps run, named when all ranks have
//! written. The next checkpoint, a signal and the stage's end wait for the one before.

use super::Run;
use super::best::BestTracker;
use super::output::RunOutput;
use super::progress::StageProgress;
use super::workers::StageWorkers;
use crate::TrainError;
use crate::checkpoint::{Contents, State, WritingCheckpoint};
use crate::config::StageConfig;
use crate::learn::PhaseKind;
use crate::loader::Loader;

/// The checkpoints of a stage.
pub(super) struct Saving<'a> {
    run: &'a Run<'a>,
    stage: &'a StageConfig,
    writing: Option<NamedWriting>,
}

/// A checkpoint that is being written.
struct NamedWriting {
    name: String,
    step: u64,
    /// Steps that this process had done.
    steps_done: u64,
    writing: WritingCheckpoint,
}

impl<'a> Saving<'a> {
    /// Of `stage`, none begun.
    pub(super) fn new(run: &'a Run<'a>, stage: &'a StageConfig) -> Self {
        Self {
            run,
            stage,
            writing: None,
        }
    }

    /// Begins to write the state after `progress` as `name`, after the one before is there. The rows of metrics that
    /// it covers are durable first.
    ///
    /// # Errors
    /// Whatever the file system says; a lost rank.
    pub(super) fn begin(
        &mut self,
        output: &mut RunOutput,
        workers: &StageWorkers,
        progress: &StageProgress,
        (name, best): (&str, Option<&BestTracker>),
    ) -> Result<(), TrainError> {
        self.finish(output, best)?;
        let (run, learner) = (self.run, &workers.learner);
        let (ranks, config) = (&run.ranks, run.config);
        let stage = self.stage.name();
        ranks.enter_phase(PhaseKind::Checkpoint, &format!("{stage} checkpoint"))?;
        let _span = tracing::info_span!("checkpoint", name).entered();
        output.end()?;
        let state = State {
            stage: stage.to_owned(),
            stage_index: progress.index,
            step: progress.step,
            evaluation_owed: progress.pending_eval,
            stopped_after: progress.stopped_after,
            updates: learner.optimizer.updates,
            cursor: workers.loader.state(),
            tokens: progress.tokens,
            world_size: ranks.size(),
            threads: run.options.threads,
            sharding: config.sharding.stage,
        };
        let ahead = workers.queue.to_store().text(ranks)?;
        let whole = learner.whole()?;
        let contents = Contents {
            model: &learner.model,
            optimizer: &learner.optimizer,
            tokenizer: run.builder.tokenizer(),
            origin: config.model.path.as_deref(),
            provenance: &run.start.provenance,
            ahead,
        };
        let folder = run.stage_folder(stage).join(name);
        // The last one is waited for at once.
        let background = self.stage.common.checkpoint.background && name != "final";
        let begun = WritingCheckpoint::begin(&folder, (&contents, &state), (ranks, background))?;
        self.writing = Some(NamedWriting {
            name: name.to_owned(),
            step: progress.step,
            steps_done: run.options.interrupt.steps_done(),
            writing: begun,
        });
        if !background {
            self.finish(output, best)?;
        }
        drop(whole);
        Ok(())
    }

    /// Gives the one being written its name if every rank has written its part.
    ///
    /// # Errors
    /// What became of it on any rank; a lost rank.
    pub(super) fn look(
        &mut self,
        output: &mut RunOutput,
        best: Option<&BestTracker>,
    ) -> Result<(), TrainError> {
        let Some(begun) = &self.writing else {
            return Ok(());
        };
        match self.run.ranks.any(!begun.writing.is_done())? {
            true => Ok(()),
            false => self.finish(output, best),
        }
    }

    /// Waits for the one being written.
    ///
    /// # Errors
    /// What became of it on any rank; a lost rank.
    pub(super) fn finish(
        &mut self,
        output: &mut RunOutput,
        best: Option<&BestTracker>,
    ) -> Result<(), TrainError> {
        let Some(begun) = self.writing.take() else {
            return Ok(());
        };
        let NamedWriting {
            name,
            step,
            steps_done,
            writing,
        } = begun;
        let (ranks, stage) = (&self.run.ranks, self.stage.name());
        if !writing.is_done() {
            // A slow disk is no rank that hangs.
            ranks.enter_phase(PhaseKind::Once, &format!("{stage} checkpoint"))?;
        }
        let _span = tracing::info_span!("checkpoint_named", name).entered();
        writing.finish(ranks)?;
        if ranks.is_leader() {
            output.wrote_checkpoint(&self.stage.common, (&name, step), best)?;
            let path = self.run.stage_folder(stage).join(&name);
            self.run.options.interrupt.wrote(&path, steps_done);
        }
        Ok(ranks.barrier()?)
    }

    /// The run fails: what is being written is kept, where no other rank is needed for it.
    pub(super) fn rescue(&mut self, output: &mut RunOutput, best: Option<&BestTracker>) {
        if self.run.ranks.size() == 1
            && let Err(error) = self.finish(output, best)
        {
            tracing::warn!("the checkpoint that was being written is lost: {error}");
        }
    }
}
