//! What every algorithm says of its section.

use super::common::StageCommon;
use super::pairs::PairsConfig;
use super::sampling::RolloutConfig;

/// What an algorithm asks of its section, its rows and its policy.
pub trait AlgorithmOptions {
    /// The fields that every stage has, as they are where the config says nothing.
    fn common_defaults(&self) -> StageCommon;

    /// What it cannot do without.
    fn needs(&self) -> AlgorithmNeeds;

    /// How completions are sampled, where it samples any.
    fn rollout(&self) -> Option<&RolloutConfig>;

    /// Completions of each prompt, where it samples any.
    fn samples(&self) -> usize {
        self.rollout().map_or(0, |rollout| rollout.group_size)
    }

    /// The pairs that a stage makes of its own policy's completions, where it makes any.
    fn pairs(&self) -> Option<&PairsConfig> {
        None
    }

    /// The tokens that its rows may have.
    fn length_bounds(&self) -> LengthBounds;

    /// One sentence of what a stage does, for the plan.
    fn describe(&self, stage: &StageCommon) -> String;

    /// Whether the samples of `step` are written, or the answers that it learns from.
    fn writes_samples(&self, step: u64) -> bool;

    /// Checks the bounds of its own keys.
    ///
    /// # Errors
    /// `key: rule, got value`.
    fn check(&self, stage: &StageCommon) -> Result<(), String>;
}

/// What an algorithm cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlgorithmNeeds {
    /// Of a row: a text to imitate.
    pub target: bool,
    /// Of a row: a rejected answer beside the one to imitate.
    pub pair: bool,
    /// Of a row: what the task's rewards compare with.
    pub reference: bool,
    /// The stage's first policy, frozen.
    pub reference_policy: bool,
}

/// Bounds in tokens, with the keys that set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthBounds {
    /// Of a prompt; longer ones are passed over.
    pub prompt: (&'static str, usize),
    /// Of an answer, the ending token included.
    pub answer: (&'static str, usize),
    /// Whether the bound on answers is on prompt and answer together, and cuts off what is over it.
    pub cuts: bool,
}
