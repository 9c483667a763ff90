//! An algorithm is one step over a [`StepContext`]; the run's cadence around it knows no algorithm by
//! name. What an algorithm asks of its section and rows is [`AlgorithmOptions`].

use std::rc::Rc;

use indexmap::IndexMap;
use models::Decoder;
use rewards::Scorer;
use rollout::Engine;
use rollout::data::CursorState;

use crate::TrainError;
use crate::config::{AlgorithmConfig, AlgorithmOptions, StageCommon, TaskConfig};
use crate::interrupt::Interrupt;
use crate::learn::{Learner, Ranks, learning_rate};
use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::samples::{SampleRow, StepId};

/// What a stage does at each step.
pub trait Algorithm: AlgorithmOptions {
    /// Runs step `cx.step`. A step that is dropped has changed nothing, the loader included.
    ///
    /// # Errors
    /// The engine's, the learner's, a bad row, a lost rank.
    fn step(&self, cx: &mut StepContext) -> Result<StepEnd, TrainError>;
}

impl AlgorithmConfig {
    /// The algorithm that this section describes.
    pub fn algorithm(&self) -> &dyn Algorithm {
        match self {
            Self::Sft(options) => options,
            Self::Grpo(options) => options,
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
    /// The reference policy, where the algorithm needs one.
    pub reference: Option<&'a Decoder>,
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
    /// The step's number, from 1.
    pub step: u64,
}

impl StepContext<'_> {
    /// This step's learning rate.
    pub fn learning_rate(&self) -> f64 {
        let common = self.stage.common;
        learning_rate(&common.optimizer, self.step, common.steps)
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
    /// A state that is not this loader's.
    pub fn drop_step(&mut self, before: &CursorState) -> Result<StepEnd, TrainError> {
        self.learner.zero_grad();
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
        /// Its completions, all ranks' on rank 0 (none in SFT).
        rows: Vec<SampleRow>,
        /// Tokens learnt from.
        tokens: u64,
    },
    /// It was dropped for an interrupt; nothing has changed.
    Dropped,
}
