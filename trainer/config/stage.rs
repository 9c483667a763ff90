//! A stage of a run: its algorithm, batch, optimizer, rollouts and cadence.

use models::Recompute;
use rollout::Sampling;
use rollout::data::CurriculumConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One stage; `algorithm` says which kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
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
            curriculum: CurriculumConfig::default(),
            optimizer: OptimizerConfig { learning_rate: 1e-4, ..OptimizerConfig::default() },
            batch: BatchConfig::default(),
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
        }
    }
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
            batch: BatchConfig { size: 8, ..BatchConfig::default() },
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
            samples: SamplesConfig::default(),
        }
    }
}

/// How completions are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Completions of each prompt, >= 2.
    pub group_size: usize,
    /// Sequences decoded at a time; 0: all of a step's.
    pub slots: usize,
    /// Prompts longer than this many tokens are left out and counted; >= 1.
    pub max_prompt_tokens: usize,
    /// Longest completion, in tokens; >= 1.
    pub max_new_tokens: usize,
    /// Divides the logits, in the sampler and in the learner; > 0.
    pub temperature: f64,
    /// Keeps the smallest set of tokens with this much probability, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// Keeps this many most probable tokens; 0 is off.
    pub top_k: i64,
    /// Keeps tokens at least this probable relative to the best, in [0, 1]; 0 is off.
    pub min_p: f64,
    /// Strings that end a completion.
    pub stop: Vec<String>,
    /// Whether the text keeps the stop string that ended it.
    pub include_stop: bool,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            group_size: 8,
            slots: 0,
            max_prompt_tokens: 4096,
            max_new_tokens: 512,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            stop: Vec::new(),
            include_stop: false,
        }
    }
}

impl RolloutConfig {
    /// The engine's view of it.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            max_new_tokens: self.max_new_tokens,
            stop: self.stop.clone(),
            include_stop: self.include_stop,
            stop_token_ids: Vec::new(),
        }
    }
}

/// `(r - mean) / (std + epsilon)`, each statistic over the prompt's group or the whole batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdvantageConfig {
    /// What the mean is taken over.
    pub mean: MeanOver,
    /// What the standard deviation is taken over; `none` divides by nothing.
    pub std: StdOver,
    /// With `std: batch`: of the raw rewards or of those with their mean taken off.
    pub std_of: StdOf,
    /// Whether the standard deviation divides by n - 1.
    pub unbiased: bool,
    /// Added to the standard deviation, >= 0.
    pub epsilon: f64,
    /// What becomes of a group whose rewards are all equal.
    pub zero_spread: ZeroSpread,
}

impl Default for AdvantageConfig {
    fn default() -> Self {
        Self {
            mean: MeanOver::Group,
            std: StdOver::Group,
            std_of: StdOf::Centred,
            unbiased: true,
            epsilon: 1e-4,
            zero_spread: ZeroSpread::Drop,
        }
    }
}

/// What an advantage's mean is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeanOver {
    /// The prompt's completions.
    #[default]
    Group,
    /// All completions of the step.
    Batch,
}

/// What an advantage's standard deviation is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdOver {
    /// The prompt's completions.
    #[default]
    Group,
    /// All completions of the step.
    Batch,
    /// Nothing: the advantage is the centred reward.
    None,
}

/// Which rewards a batch standard deviation is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdOf {
    /// The rewards themselves.
    Raw,
    /// The rewards minus their mean.
    #[default]
    Centred,
}

/// What becomes of a group whose rewards are all equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZeroSpread {
    /// It is not learnt from; its tokens do not count in the normaliser.
    #[default]
    Drop,
    /// It stays: no policy gradient, but KL and entropy act on it and its tokens count.
    Keep,
    /// It is dropped, and further prompts are sampled until the batch is full, at most twice the
    /// batch over.
    Refill,
}

/// The policy loss of one update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// How token losses are summed up.
    pub aggregation: Aggregation,
    /// With `constant_length`: the constant, in tokens; 0 takes rollout.max_new_tokens.
    pub constant_length: usize,
    /// The ratio is clipped below at 1 - clip_low, in [0, 1]; null does not clip.
    pub clip_low: Option<f64>,
    /// The ratio is clipped above at 1 + clip_high, >= 0; null does not clip.
    pub clip_high: Option<f64>,
    /// With a negative advantage the loss is at most -dual_clip * advantage, > 1; null is off.
    pub dual_clip: Option<f64>,
    /// Weight of the entropy bonus, >= 0.
    pub entropy: f64,
    /// What becomes of completions that reached the maximum length.
    pub truncated: Truncated,
    /// Optimizer steps on each rollout batch, >= 1; the batch's groups are split among them.
    pub updates: usize,
    /// Passes over each rollout batch, >= 1.
    pub epochs: usize,
    /// With several updates: what the ratio's denominator is.
    pub denominator: Denominator,
    /// Importance weight exp(learner - sampler) of each token, truncated at this value, > 0; null
    /// gives no weight. It corrects for a sampler whose distribution differs from the learner's.
    pub importance_cap: Option<f64>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            aggregation: Aggregation::TokenMean,
            constant_length: 0,
            clip_low: Some(0.2),
            clip_high: Some(0.2),
            dual_clip: None,
            entropy: 0.0,
            truncated: Truncated::Keep,
            updates: 1,
            epochs: 1,
            denominator: Denominator::Sampler,
            importance_cap: None,
        }
    }
}

/// How token losses are summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Mean over all tokens of the update (DAPO, verl's token-mean).
    #[default]
    TokenMean,
    /// Mean over each completion's tokens, then over completions (GRPO as published).
    SequenceMean,
    /// Sum over tokens divided by completions times a constant length (Dr. GRPO).
    ConstantLength,
}

/// What becomes of completions that reached the maximum length.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// They are learnt from like the others; the rubric may give them a fixed reward.
    #[default]
    Keep,
    /// They count in the group's statistics but are not learnt from.
    Mask,
}

/// The denominator of the importance ratio when a batch has several updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    /// The sampler's log-probabilities.
    #[default]
    Sampler,
    /// The learner's own before the first update: one more forward pass.
    Recomputed,
}

/// KL divergence to the reference policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KlConfig {
    /// Its weight, >= 0; with 0 no reference policy is loaded.
    pub coefficient: f64,
    /// The estimator, of log p_ref - log p (Schulman 2020).
    pub estimator: KlEstimator,
    /// Whether it is a loss or is taken off the reward.
    pub place: KlPlace,
}

impl Default for KlConfig {
    fn default() -> Self {
        Self { coefficient: 0.0, estimator: KlEstimator::K3, place: KlPlace::Loss }
    }
}

/// Estimators of the KL divergence from one sample; d = log p_ref - log p.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// -d
    K1,
    /// d^2 / 2
    K2,
    /// exp(d) - 1 - d
    #[default]
    K3,
}

/// Where the KL term acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// Added to the token loss.
    #[default]
    Loss,
    /// Summed over the completion and taken off its reward.
    Reward,
}

/// AdamW (Loshchilov and Hutter 2019) and its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Peak learning rate, > 0.
    pub learning_rate: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment, > 0.
    pub epsilon: f64,
    /// Decoupled weight decay of matrices, >= 0; norms and biases are spared.
    pub weight_decay: f64,
    /// Largest global gradient norm, > 0; null does not clip.
    pub clip_norm: Option<f64>,
    /// Shape of the learning rate over the stage.
    pub schedule: Schedule,
    /// Steps of linear rise from 0, a number of steps if >= 1, a share of the stage's if below.
    pub warmup: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-5,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: Some(1.0),
            schedule: Schedule::Constant {},
            warmup: 0.0,
        }
    }
}

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The peak throughout.
    Constant {},
    /// Half a cosine from the peak down to `floor` times the peak at the last step.
    Cosine {
        /// Share of the peak at the end, in [0, 1].
        #[serde(default)]
        floor: f64,
    },
    /// Multiplied by `factor` every `every` steps.
    Step {
        /// Steps between two cuts, >= 1.
        every: u64,
        /// What each cut multiplies by, in (0, 1].
        factor: f64,
    },
}

/// How much is learnt from at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Sequences of an SFT step, or prompts of a GRPO step, over all ranks; >= 1.
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
        Self { size: 32, micro_tokens: 8192, logit_rows: 0, recompute: Recompute::None }
    }
}

/// Held-out evaluation: completions of the sources' held-out rows, scored by their tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Steps between evaluations; 0: only before the first step and after the last, if `prompts` > 0.
    pub every: u64,
    /// Held-out prompts, the first of each evaluation's fixed order; 0 turns evaluation off.
    pub prompts: usize,
    /// Completions of each prompt, >= 1.
    pub samples: usize,
    /// Sampling temperature, > 0.
    pub temperature: f64,
    /// Whether a greedy completion of each prompt is scored too (`eval/heldout_greedy/...`).
    pub greedy: bool,
    /// Longest completion, in tokens; 0 takes the stage's (SFT: 512).
    pub max_new_tokens: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every: 0, prompts: 0, samples: 1, temperature: 1.0, greedy: true, max_new_tokens: 0 }
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
    /// Whether the stage's end is written as `final/`.
    pub at_end: bool,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 50, keep_last: 2, keep_every: 0, at_end: true }
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
