//! What a stage makes of its evaluations: which checkpoint is kept as the best one, and whether it ends early. Rank 0
//! has the numbers and tells the others.

use super::Run;
use super::best::BestTracker;
use super::output::RunOutput;
use super::progress::StageProgress;
use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::config::StageConfig;
use crate::resume::keep_final;

/// What all ranks know of a stage after an evaluation, or without one.
#[derive(Debug, Clone, Copy)]
pub(super) struct EvalVerdict {
    /// Whether it was the best so far.
    pub(super) improved: bool,
    /// Whether the stage ends early.
    pub(super) ends: bool,
}

impl Run<'_> {
    /// What keeps score of the stage's evaluations on rank 0, where something is asked of them.
    pub(super) fn best(
        &self,
        stage: &StageConfig,
        start: Option<&Checkpoint>,
    ) -> Result<Option<BestTracker>, TrainError> {
        if !self.ranks.is_leader() {
            return Ok(None);
        }
        let Some(best) = BestTracker::of(&stage.common, self.options.folder)? else {
            return Ok(None);
        };
        let folder = self.stage_folder(stage.name());
        if let (Some(start), Some(step)) = (start, best.step())
            && start.path.ends_with("final")
            && start.state.step == step
        {
            // The stage goes on, and its next end takes the name.
            keep_final(&folder, step)?;
        }
        best.settle(&folder)?;
        Ok(Some(best))
    }

    /// What rank 0 makes of the stage's last evaluation, on every rank.
    pub(super) fn verdict(
        &self,
        output: &mut RunOutput,
        progress: &StageProgress,
        (best, improved): (Option<&BestTracker>, bool),
    ) -> Result<EvalVerdict, TrainError> {
        let common = &self.config.stages[progress.index].common;
        if common.checkpoint.best.is_none() {
            return Ok(EvalVerdict {
                improved: false,
                ends: false,
            });
        }
        let open = progress.step < common.steps && !progress.pending_eval;
        let ends = open && best.is_some_and(BestTracker::stops);
        if let Some(best) = best.filter(|_| ends) {
            let (step, why) = (progress.step, best.reason());
            let notice = format!("{} ends after step {step}: {why}", common.name);
            output.observer.notice(&notice);
        }
        Ok(EvalVerdict {
            improved: self.ranks.any(improved)?,
            ends: self.ranks.any(ends)?,
        })
    }
}
