//! What a stage computes with.

use rewards::Scorer;
use rollout::Engine;

use crate::TrainError;
use crate::interrupt::Interrupt;
use crate::learn::Learner;
use crate::loader::DataLoader;
use crate::queue::BatchQueue;
use crate::rollouts::RolloutWorkers;

/// Learner, engine and loader of a stage.
pub(super) struct StageWorkers {
    pub(super) learner: Learner,
    pub(super) engine: Box<dyn Engine>,
    pub(super) loader: DataLoader,
    /// Batches that are sampled ahead.
    pub(super) queue: BatchQueue,
    /// Whether it was told what of a suite is left out.
    pub(super) suite_told: bool,
}

impl StageWorkers {
    /// Waits for what is sampled ahead, so that the engine is free for something else; false when a signal's grace ran out.
    ///
    /// # Errors
    /// A lost scoring service; the engine's.
    pub(super) fn settle(
        &mut self,
        scorer: &Scorer,
        interrupt: &Interrupt,
    ) -> Result<bool, TrainError> {
        let mut workers = RolloutWorkers {
            engine: self.engine.as_mut(),
            scorer,
            interrupt,
        };
        self.queue.settle(&mut workers)
    }

    /// Takes what has ended of it by now, and has it scored.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn look_ahead(
        &mut self,
        scorer: &Scorer,
        interrupt: &Interrupt,
    ) -> Result<(), TrainError> {
        let mut workers = RolloutWorkers {
            engine: self.engine.as_mut(),
            scorer,
            interrupt,
        };
        self.queue.look(&mut workers)
    }
}
