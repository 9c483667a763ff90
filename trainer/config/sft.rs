//! What an SFT stage learns by.

use rollout::data::CurriculumConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, at_least, ensure};
use super::common::{BatchConfig, CheckpointConfig, EvalConfig, StageCommon};
use super::learnt_samples::LearntSamplesConfig;
use super::optimizer::OptimizerConfig;
use super::options::{AlgorithmNeeds, AlgorithmOptions, LengthBounds};
use super::sampling::RolloutConfig;

/// Supervised fine-tuning: the loss is over the completion's tokens alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// Sequences longer than this many tokens are cut off at their end; >= 2.
    pub max_tokens: usize,
    /// Which answers of a conversation of several turns are learnt; each is a sequence of its own,
    /// the turns before it being its prompt.
    #[serde(rename = "turns")]
    pub train_on: AnswerSelection,
    /// What is written of the answers that are learnt.
    pub samples: LearntSamplesConfig,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            max_tokens: 4096,
            train_on: AnswerSelection::default(),
            samples: LearntSamplesConfig::default(),
        }
    }
}

/// Answers of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerSelection {
    /// Every answer.
    #[default]
    All,
    /// The last one.
    Last,
}

impl AlgorithmOptions for SftConfig {
    fn common_defaults(&self) -> StageCommon {
        StageCommon {
            name: "sft".into(),
            steps: 100,
            epochs: None,
            curriculum: CurriculumConfig::default(),
            optimizer: OptimizerConfig {
                learning_rate: 1e-4,
                ..OptimizerConfig::default()
            },
            batch: BatchConfig::default(),
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
            continue_schedules: false,
            lora: None,
        }
    }

    fn needs(&self) -> AlgorithmNeeds {
        AlgorithmNeeds {
            target: true,
            pair: false,
            reference: false,
            reference_policy: false,
        }
    }

    fn rollout(&self) -> Option<&RolloutConfig> {
        None
    }

    fn length_bounds(&self) -> LengthBounds {
        LengthBounds {
            prompt: ("max_tokens", self.max_tokens.saturating_sub(1)),
            answer: ("max_tokens", self.max_tokens),
            cuts: true,
        }
    }

    fn describe(&self, stage: &StageCommon) -> String {
        format!(
            "sft, {} steps of {} sequences, at most {} tokens a step",
            stage.steps,
            stage.batch.size,
            stage.batch.size * self.max_tokens
        )
    }

    fn writes_samples(&self, step: u64) -> bool {
        self.samples.writes(step)
    }

    fn check(&self, stage: &StageCommon) -> BoundResult {
        ensure(!stage.curriculum.observes(), || {
            "curriculum.order: `observed` is for stages that score completions (algorithm: grpo); imitation has no rewards, `staged` fits here".into()
        })?;
        at_least("max_tokens", self.max_tokens, 2)
    }
}
