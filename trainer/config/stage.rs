//! A stage of a run: its algorithm, batch, optimizer, rollouts and cadence.

use models::Recompute;
use rollout::data::CurriculumConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AdvantageConfig, KlConfig, LossConfig, OptimizerConfig, RolloutConfig};

/// One stage; `algorithm` says which kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a run has a handful of stages")]
pub enum StageConfig {
    /// Supervised fine-tuning on the sources' targets.
    Sft(SftStage),
    /// Group-relative policy optimisation on scored completions.
    Grpo(GrpoStage),
}

impl StageConfig {
    /// Its name, in metrics and folders.
    pub fn name(&self) -> &str {
        match self {
            Self::Sft(stage) => &stage.name,
            Self::Grpo(stage) => &stage.name,
        }
    }

    /// Its number of optimizer steps.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Sft(stage) => stage.steps,
            Self::Grpo(stage) => stage.steps,
        }
    }

    /// When it writes checkpoints.
    pub fn checkpoint(&self) -> &CheckpointConfig {
        match self {
            Self::Sft(stage) => &stage.checkpoint,
            Self::Grpo(stage) => &stage.checkpoint,
        }
    }

    /// When and how it evaluates.
    pub fn eval(&self) -> &EvalConfig {
        match self {
            Self::Sft(stage) => &stage.eval,
            Self::Grpo(stage) => &stage.eval,
        }
    }

    /// In which order it draws.
    pub fn curriculum(&self) -> &CurriculumConfig {
        match self {
            Self::Sft(stage) => &stage.curriculum,
            Self::Grpo(stage) => &stage.curriculum,
        }
    }

    /// Its optimizer.
    pub fn optimizer(&self) -> &OptimizerConfig {
        match self {
            Self::Sft(stage) => &stage.optimizer,
            Self::Grpo(stage) => &stage.optimizer,
        }
    }

    /// Its batch.
    pub fn batch(&self) -> &BatchConfig {
        match self {
            Self::Sft(stage) => &stage.batch,
            Self::Grpo(stage) => &stage.batch,
        }
    }
}

/// Supervised fine-tuning: the loss is over the completion's tokens alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SftStage {
    /// Name of the stage, unique in the run.
    pub name: String,
    /// Optimizer steps, >= 1.
    pub steps: u64,
    /// Sequences longer than this many tokens are cut off at their end; >= 2.
    pub max_tokens: usize,
    /// Which answers of a conversation of several turns are learnt; each is a sequence of its own,
    /// the turns before it being its prompt.
    pub turns: Turns,
    /// Order of the examples.
    pub curriculum: CurriculumConfig,
    /// Optimizer and schedule.
    pub optimizer: OptimizerConfig,
    /// Batch and its micro-batches.
    pub batch: BatchConfig,
    /// Held-out evaluation.
    pub eval: EvalConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
}

impl Default for SftStage {
    fn default() -> Self {
        Self {
            name: "sft".into(),
            steps: 100,
            max_tokens: 4096,
            turns: Turns::default(),
            curriculum: CurriculumConfig::default(),
            optimizer: OptimizerConfig {
                learning_rate: 1e-4,
                ..OptimizerConfig::default()
            },
            batch: BatchConfig::default(),
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
        }
    }
}

/// Answers of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Turns {
    /// Every answer.
    #[default]
    All,
    /// The last one.
    Last,
}

/// Group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300) and its variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoStage {
    /// Name of the stage, unique in the run.
    pub name: String,
    /// Rollout batches, each followed by `updates` optimizer steps; >= 1.
    pub steps: u64,
    /// How completions are sampled.
    pub rollout: RolloutConfig,
    /// How rewards become advantages.
    pub advantage: AdvantageConfig,
    /// The policy loss.
    pub loss: LossConfig,
    /// Distance to the reference policy, the stage's first weights.
    pub kl: KlConfig,
    /// Order of the prompts.
    pub curriculum: CurriculumConfig,
    /// Optimizer and schedule.
    pub optimizer: OptimizerConfig,
    /// Prompts of a step and micro-batches.
    pub batch: BatchConfig,
    /// Held-out evaluation.
    pub eval: EvalConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// Sample files.
    pub samples: SamplesConfig,
}

impl Default for GrpoStage {
    fn default() -> Self {
        Self {
            name: "grpo".into(),
            steps: 100,
            rollout: RolloutConfig::default(),
            advantage: AdvantageConfig::default(),
            loss: LossConfig::default(),
            kl: KlConfig::default(),
            curriculum: CurriculumConfig::default(),
            optimizer: OptimizerConfig::default(),
            batch: BatchConfig {
                size: 8,
                ..BatchConfig::default()
            },
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
            samples: SamplesConfig::default(),
        }
    }
}

/// How much is learnt from at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Examples of an SFT step, or prompts of a GRPO step, over all ranks; >= 1.
    pub size: usize,
    /// Tokens of a micro-batch, packed without padding; >= 1. A longer sequence goes alone.
    pub micro_tokens: usize,
    /// Rows of logits that exist at a time; 0 takes as many as fit in 64 million numbers.
    pub logit_rows: usize,
    /// Which activations are computed anew in the backward pass.
    pub recompute: Recompute,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            size: 32,
            micro_tokens: 8192,
            logit_rows: 0,
            recompute: Recompute::None,
        }
    }
}

/// Held-out evaluation: completions of the sources' held-out rows, scored by their tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Steps between evaluations; 0: only before the first step and after the last, if `prompts` > 0.
    pub every: u64,
    /// Held-out prompts, evenly spread over the held-out rows and the same each time; 0 turns evaluation off.
    pub prompts: usize,
    /// Completions of each prompt, >= 1.
    pub samples: usize,
    /// Sampling temperature, > 0.
    pub temperature: f64,
    /// Whether a greedy completion of each prompt is scored too (`eval/heldout_greedy/...`).
    pub greedy: bool,
    /// Whether prompts with pictures are scored once more with the picture of another held-out
    /// prompt of their task (`eval/heldout_swapped/...`), at the same temperature: a policy that
    /// looks does worse.
    pub swap_images: bool,
    /// Longest completion, in tokens; 0 takes the stage's (SFT: 512).
    pub max_new_tokens: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every: 0,
            prompts: 0,
            samples: 1,
            temperature: 1.0,
            greedy: true,
            swap_images: false,
            max_new_tokens: 0,
        }
    }
}

/// When checkpoints are written and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; 0 writes none on the way.
    pub every: u64,
    /// Newest checkpoints of the stage that are kept, >= 1.
    pub keep_last: usize,
    /// Checkpoints at multiples of this step are kept for good; 0 keeps none.
    pub keep_every: u64,
    /// Whether the stage's end is written as `final/`; one with a successor always is.
    pub at_end: bool,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 50,
            keep_last: 2,
            keep_every: 0,
            at_end: true,
        }
    }
}

/// Sample files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesConfig {
    /// Every how many steps all samples are written, >= 1; 0 writes none.
    pub every: u64,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self { every: 1 }
    }
}
