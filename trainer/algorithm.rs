//! An algorithm is one step over a [`StepContext`]; the run's cadence around it knows no algorithm by
//! name. What an algorithm asks of its section and rows is [`AlgorithmOptions`].

use std::path::Path;
use std::rc::Rc;

use indexmap::IndexMap;
use models::{AdapterMode, Decoder};
use rewards::Scorer;
use rollout::Engine;
use rollout::data::CursorState;
use tch::Tensor;

use crate::TrainError;
use crate::config::{AlgorithmConfig, AlgorithmOptions, StageCommon, TaskConfig};
use crate::interrupt::Interrupt;
use crate::learn::{HeadOptions, Learner, MicroBatch, Ranks, Update, learning_rate};
use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::queue::BatchQueue;
use crate::reference_logprobs::ReferenceLogprobs;
use crate::rollouts::RolloutWorkers;
use crate::samples::StepId;
use crate::step_samples::StepSamples;

/// What a stage does at each step.
pub trait Algorithm: AlgorithmOptions {
    /// Runs step `cx.step`. A step that is dropped has changed nothing, the loader included.
    ///
    /// # Errors
    /// The engine's, the learner's, a bad row, a lost rank.
    fn step(&self, cx: &mut StepContext) -> Result<StepEnd, TrainError>;

    /// What is computed once, before the stage's first step or where a run goes on, and kept in the run
    /// folder; the loader stands afterwards where it stood.
    ///
    /// # Errors
    /// The learner's, a bad row, the file system's, a lost rank.
    fn prepare(&self, cx: &mut PrepareContext) -> Result<Prepared, TrainError> {
        let _ = cx;
        Ok(Prepared::Nothing)
    }
}

/// What a stage is prepared with.
pub struct PrepareContext<'a> {
    /// What the stage's steps share, but the reference policy.
    pub stage: &'a StageContext<'a>,
    /// The run folder.
    pub run: &'a Path,
    /// The policy.
    pub learner: &'a Learner,
    /// Draws prompts.
    pub loader: &'a mut dyn Loader,
    /// Steps of the stage that are done.
    pub done: u64,
    /// Whether the run goes on with something that is not as it began, and was accepted.
    pub changed: bool,
    /// Gives the stage's first policy; of one with adapters, the policy whose adapters are to be switched off.
    pub first_policy: &'a dyn Fn() -> Result<Rc<Decoder>, TrainError>,
    /// Hears how far it is: what, done, all.
    pub progress: &'a mut dyn FnMut(&str, u64, u64),
}

/// What [`Algorithm::prepare`] gives.
pub enum Prepared {
    /// Nothing was to be prepared.
    Nothing,
    /// What the reference policy says of the rows to come.
    Logprobs(ReferenceLogprobs),
    /// A signal came first; what was computed is kept.
    Interrupted,
}

/// What an algorithm compares the policy with.
#[derive(Clone, Copy)]
pub enum ReferencePolicy<'a> {
    /// Nothing.
    Absent,
    /// The stage's first policy, frozen.
    Network(&'a Decoder),
    /// The same without a copy: the policy's own weights, its adapters switched off.
    WithoutAdapters,
    /// What that policy said of the stage's rows.
    Logprobs(&'a ReferenceLogprobs),
}

impl<'a> ReferencePolicy<'a> {
    /// Its log-probability `[n]` of each completion token of `micro`, without gradient; none where it computes
    /// nothing.
    ///
    /// # Errors
    /// libtorch ending an operation (out of memory).
    pub fn log_probs(
        self,
        learner: &Learner,
        micro: &MicroBatch,
        head: &HeadOptions,
    ) -> Result<Option<Tensor>, TrainError> {
        let Some((policy, mode)) = self.network(learner) else {
            return Ok(None);
        };
        let source = learner.vision_features();
        Learner::log_probs(policy, micro, head, source, mode).map(Some)
    }

    /// The pass of [`Self::log_probs`] without rows, where other ranks have some.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn idle(self, learner: &Learner) -> Result<(), TrainError> {
        match self.network(learner) {
            None => Ok(()),
            Some((policy, _)) => Learner::idle_log_probs(policy),
        }
    }

    /// What computes it, if anything does, and what its adapters do then.
    fn network(self, learner: &'a Learner) -> Option<(&'a Decoder, AdapterMode)> {
        match self {
            Self::Absent | Self::Logprobs(_) => None,
            Self::Network(policy) => Some((policy, AdapterMode::On)),
            Self::WithoutAdapters => Some((&learner.model, AdapterMode::Off)),
        }
    }
}

impl AlgorithmConfig {
    /// The algorithm that this section describes.
    pub fn algorithm(&self) -> &dyn Algorithm {
        match self {
            Self::Sft(options) => options,
            Self::Grpo(options) => options,
            Self::Dpo(options) => options,
        }
    }
}

/// What a stage's steps share.
pub struct StageContext<'a> {
    /// What every stage's section holds.
    pub common: &'a StageCommon,
    /// The tasks, whose rubrics may normalise their parts.
    pub tasks: &'a IndexMap<String, TaskConfig>,
    /// Scores completions.
    pub scorer: &'a Scorer,
    /// What the algorithm compares the policy with.
    pub reference: ReferencePolicy<'a>,
    /// Asks the step to be dropped.
    pub interrupt: &'a Interrupt,
    /// The ranks that run together.
    pub ranks: Rc<Ranks>,
    /// Seed of the completions' random numbers.
    pub seed: u64,
    /// Steps of earlier stages that the schedules of reward weights have behind them.
    pub steps_before: u64,
}

/// What one step works with.
pub struct StepContext<'a> {
    /// What the stage's steps share.
    pub stage: &'a StageContext<'a>,
    /// The policy.
    pub learner: &'a mut Learner,
    /// Samples completions of it.
    pub engine: &'a mut dyn Engine,
    /// Draws prompts.
    pub loader: &'a mut dyn Loader,
    /// Batches that are sampled ahead.
    pub queue: &'a mut BatchQueue,
    /// The step's number, from 1.
    pub step: u64,
}

impl StepContext<'_> {
    /// This step's learning rate.
    pub fn learning_rate(&self) -> f64 {
        let common = self.stage.common;
        learning_rate(&common.optimizer, self.step, common.steps)
    }

    /// One optimizer step on the gradients accumulated; refused where `loss` is not finite.
    ///
    /// # Errors
    /// A lost rank, or libtorch refusing the tensors.
    pub fn update(&mut self, loss: f64) -> Result<Update, TrainError> {
        if !loss.is_finite() {
            self.learner.zero_grad()?;
            return Ok(Update::default());
        }
        let clip_norm = self.stage.common.optimizer.clip_norm;
        let lr = self.learning_rate();
        self.learner.optimizer_step(lr, clip_norm)
    }

    /// Takes what has ended of batches ahead, and has it scored, while the learner learns.
    ///
    /// # Errors
    /// The engine's.
    pub fn look_ahead(&mut self) -> Result<(), TrainError> {
        let mut workers = RolloutWorkers {
            engine: &mut *self.engine,
            scorer: self.stage.scorer,
            interrupt: self.stage.interrupt,
        };
        self.queue.look(&mut workers)
    }

    /// Where the schedules of reward weights are.
    pub fn schedule_step(&self) -> u64 {
        self.stage.steps_before + self.step
    }

    /// Where the step's rows stand.
    pub fn id(&self) -> StepId {
        StepId {
            stage: self.stage.common.name.clone(),
            step: self.step,
            policy_version: self.engine.stats().policy_version,
        }
    }

    /// Ends the step as if it had never begun.
    ///
    /// # Errors
    /// A state that is not this loader's; a lost rank.
    pub fn drop_step(&mut self, before: &CursorState) -> Result<StepEnd, TrainError> {
        self.learner.zero_grad()?;
        self.loader.restore(before)?;
        Ok(StepEnd::Dropped)
    }
}

/// How a step ended.
pub enum StepEnd {
    /// It was finished.
    Done {
        /// Its metrics.
        metrics: Metrics,
        /// Its completions, or the answers that it has learnt from, all ranks' on rank 0.
        rows: StepSamples,
        /// Tokens learnt from.
        tokens: u64,
    },
    /// It was dropped for an interrupt; nothing has changed.
    Dropped,
}
