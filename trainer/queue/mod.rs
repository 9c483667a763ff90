//! Batches that are sampled ahead of the learner (`rollout.max_staleness`), the oldest first: the one of the step under
//! way, and those of the steps behind it. How many there may be is all the backpressure there is.
//!
//! The engine in this process samples a batch when it is drawn; engines elsewhere have several under way, and what ends is
//! taken and scored whenever somebody [looks](BatchQueue::look). Without sampling ahead the queue holds the batch of the
//! step while it is sampled, and nothing between steps.

mod stored;

use std::collections::VecDeque;

use rollout::Prompt;
use rollout::data::CursorState;

use crate::TrainError;
use crate::draw_stats::DrawStats;
use crate::rollout_batch::{OpenRollout, ScoredGroup};
use crate::rollouts::RolloutWorkers;

pub(crate) use stored::AHEAD;
pub use stored::{StoredBatch, StoredGroup, StoredQueue};

/// What is known of a batch's draw.
#[derive(Debug, Clone)]
pub struct BatchDraw {
    /// The step that learns from it.
    pub step: u64,
    /// The loader's place before it.
    pub before: CursorState,
    /// Draws of the stage once it is drawn.
    pub end: u64,
    /// Prompts passed over for their length.
    pub too_long: u64,
    /// What was drawn of each task.
    pub stats: DrawStats,
    /// The most tokens of a completion.
    pub most: usize,
}

/// A batch in the queue.
#[derive(Debug)]
pub struct QueuedBatch {
    /// How it was drawn.
    pub draw: BatchDraw,
    /// Its prompts, and what has come of them.
    pub rollout: OpenRollout,
}

/// Batches ahead of the learner.
#[derive(Debug, Default)]
pub struct BatchQueue {
    batches: VecDeque<QueuedBatch>,
    /// What a checkpoint holds, until it is drawn again.
    stored: Option<StoredQueue>,
    /// The next number of a group.
    groups: usize,
}

impl BatchQueue {
    /// With what a checkpoint holds: its rows are drawn again before anything else is.
    pub fn of(stored: Option<StoredQueue>) -> Self {
        Self {
            stored,
            ..Self::default()
        }
    }

    /// Takes what a checkpoint holds, to draw it again.
    pub fn take_stored(&mut self) -> Option<StoredQueue> {
        self.stored.take()
    }

    /// Numbers for `count` groups that no group in the queue has: the first of them.
    pub fn number(&mut self, count: usize) -> usize {
        if self.batches.is_empty() {
            self.groups = 0;
        }
        let first = self.groups;
        self.groups += count;
        first
    }

    /// How many batches there are.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The step of the oldest batch.
    pub fn oldest(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.draw.step)
    }

    /// The step of the newest batch.
    pub fn newest(&self) -> Option<u64> {
        self.batches.back().map(|batch| batch.draw.step)
    }

    /// Whether some batch's completions are under way.
    pub fn is_under_way(&self) -> bool {
        let mut batches = self.batches.iter();
        batches.any(|batch| batch.rollout.is_under_way())
    }

    /// Adds a batch.
    pub fn push(&mut self, batch: QueuedBatch) {
        self.batches.push_back(batch);
    }

    /// Whether nobody has asked for what batch `place` lacks.
    pub fn waits(&self, place: usize) -> bool {
        let batch = self.batches.get(place);
        batch.is_some_and(|batch| !batch.rollout.is_under_way() && !batch.rollout.is_scored())
    }

    /// The prompts of batch `place`.
    pub fn prompts(&self, place: usize) -> &[Prompt] {
        let batch = self.batches.get(place);
        batch.map_or(&[], |batch| batch.rollout.prompts())
    }

    /// Asks for what batch `place` lacks, without waiting for it.
    ///
    /// # Errors
    /// The engine's.
    pub fn submit(&mut self, place: usize, workers: &mut RolloutWorkers) -> Result<(), TrainError> {
        match self.batches.get_mut(place) {
            Some(batch) => batch.rollout.submit(workers.engine),
            None => Ok(()),
        }
    }

    /// Waits for batch `place`; whether it is whole, see [`RolloutWorkers::collect`].
    ///
    /// # Errors
    /// A lost scoring service; the engine's.
    pub fn collect(
        &mut self,
        place: usize,
        workers: &mut RolloutWorkers,
    ) -> Result<bool, TrainError> {
        let mut others = Vec::new();
        let mut awaited = None;
        for (at, batch) in self.batches.iter_mut().enumerate() {
            match at == place {
                true => awaited = Some(&mut batch.rollout),
                false => others.push(&mut batch.rollout),
            }
        }
        match awaited {
            Some(awaited) => workers.collect(awaited, &mut others),
            None => Ok(true),
        }
    }

    /// Waits for all that is under way: whoever else wants completions of the engine comes after them.
    ///
    /// # Errors
    /// A lost scoring service; the engine's.
    pub fn settle(&mut self, workers: &mut RolloutWorkers) -> Result<bool, TrainError> {
        for place in 0..self.batches.len() {
            if self.batches[place].rollout.is_under_way() && !self.collect(place, workers)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes what has come by now, without waiting, and has it scored.
    ///
    /// # Errors
    /// The engine's.
    pub fn look(&mut self, workers: &mut RolloutWorkers) -> Result<(), TrainError> {
        if !self.is_under_way() {
            return Ok(());
        }
        let mut all: Vec<&mut OpenRollout> = self
            .batches
            .iter_mut()
            .map(|batch| &mut batch.rollout)
            .collect();
        match all.split_first_mut() {
            Some((first, others)) => workers.look(first, others),
            None => Ok(()),
        }
    }

    /// The oldest batch's groups; the batch stays, for the step may be dropped.
    pub fn first(&self) -> Option<(Vec<ScoredGroup>, BatchDraw)> {
        let batch = self.batches.front()?;
        Some((batch.rollout.groups(), batch.draw.clone()))
    }

    /// Takes the oldest batch.
    pub fn take_first(&mut self) -> Option<(Vec<ScoredGroup>, BatchDraw)> {
        let batch = self.batches.pop_front()?;
        Some((batch.rollout.into_groups(), batch.draw))
    }

    /// Forgets all batches.
    pub fn clear(&mut self) {
        self.batches.clear();
    }

    /// What a checkpoint holds of this rank's batches.
    pub(crate) fn to_store(&self) -> StoredQueue {
        if let Some(stored) = &self.stored {
            return stored.clone();
        }
        let batches = self.batches.iter().map(|batch| {
            let groups = batch.rollout.groups().into_iter().map(|scored| {
                let group = StoredGroup {
                    completions: scored.group.completions,
                    rewards: scored.rewards,
                };
                (scored.group.prompt.draw, group)
            });
            StoredBatch {
                step: batch.draw.step,
                before: batch.draw.before.clone(),
                groups: groups.collect(),
            }
        });
        StoredQueue {
            batches: batches.collect(),
        }
    }
}
