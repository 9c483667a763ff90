//! What a GRPO stage samples with and learns by: rollout, advantage, loss, KL.

use rollout::data::CurriculumConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, at_least, ensure, not_negative, positive, within};
use super::common::{BatchConfig, CheckpointConfig, EvalConfig, StageCommon};
use super::correction::{CorrectionConfig, OldLogprobs};
use super::optimizer::OptimizerConfig;
use super::options::{AlgorithmNeeds, AlgorithmOptions, LengthBounds};
use super::sampling::RolloutConfig;

/// Group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300) and its variants.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoConfig {
    /// How completions are sampled.
    pub rollout: RolloutConfig,
    /// How rewards become advantages.
    pub advantage: AdvantageConfig,
    /// The policy loss.
    pub loss: LossConfig,
    /// What corrects for completions of other weights than those that learn, or of a server that computes otherwise; null:
    /// nothing with `rollout.max_staleness: 0`, else the defaults of this section.
    pub correction: Option<CorrectionConfig>,
    /// Distance to the reference policy, the stage's first weights.
    pub kl: KlConfig,
    /// Sample files.
    pub samples: SamplesConfig,
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
    /// With several updates: what the ratio's denominator is. A `correction` has an `anchor` in its place.
    #[serde(alias = "denominator")]
    #[schemars(extend("x-aliases" = ["denominator"]))]
    pub old_logprobs: OldLogprobs,
    /// Truncated importance sampling: a weight exp(old_logprobs - sampler) of each token, capped at this value, > 0;
    /// null gives no weight. It corrects for a sampler whose distribution differs from that of the
    /// ratio's denominator; with the sampler as denominator it is 1.
    #[serde(alias = "importance_cap")]
    #[schemars(extend("x-aliases" = ["importance_cap"]))]
    pub tis_cap: Option<f64>,
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
            old_logprobs: OldLogprobs::Sampler,
            tis_cap: None,
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
        Self {
            coefficient: 0.0,
            estimator: KlEstimator::K3,
            place: KlPlace::Loss,
        }
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

impl GrpoConfig {
    /// The correction in effect, if there is one.
    pub fn correction(&self) -> Option<CorrectionConfig> {
        let ahead = self.rollout.max_staleness > 0;
        let given = self.correction.clone();
        given.or_else(|| ahead.then(CorrectionConfig::default))
    }

    /// Whether the correction, and sampling ahead, fit the rest.
    fn check_correction(&self) -> BoundResult {
        let ahead = self.rollout.max_staleness > 0;
        ensure(
            !ahead || self.advantage.zero_spread != ZeroSpread::Refill,
            || {
                "advantage.zero_spread: `refill` draws further prompts when a step's rewards are known, and with rollout.max_staleness the batches after it are drawn by then: drop or keep, or max_staleness 0".into()
            },
        )?;
        let Some(correction) = self.correction() else {
            return Ok(());
        };
        correction.check()?;
        ensure(self.loss.tis_cap.is_none(), || {
            "loss.tis_cap: `correction` (which rollout.max_staleness implies) weighs tokens in its place: method truncated, high: the cap".into()
        })?;
        ensure(
            self.loss.old_logprobs == OldLogprobs::Sampler
                || correction.anchor == OldLogprobs::Recomputed,
            || {
                "loss.old_logprobs: `recomputed` contradicts correction.anchor `sampler`, which counts: leave it out".into()
            },
        )
    }
}

impl AlgorithmOptions for GrpoConfig {
    fn common_defaults(&self) -> StageCommon {
        StageCommon {
            name: "grpo".into(),
            steps: 100,
            epochs: None,
            curriculum: CurriculumConfig::default(),
            optimizer: OptimizerConfig::default(),
            batch: BatchConfig {
                size: 8,
                ..BatchConfig::default()
            },
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
            continue_schedules: false,
            lora: None,
        }
    }

    fn needs(&self) -> AlgorithmNeeds {
        AlgorithmNeeds {
            target: false,
            pair: false,
            reference: true,
            reference_policy: self.kl.coefficient != 0.0,
        }
    }

    fn rollout(&self) -> Option<&RolloutConfig> {
        Some(&self.rollout)
    }

    fn length_bounds(&self) -> LengthBounds {
        let rollout = &self.rollout;
        LengthBounds {
            prompt: ("rollout.max_prompt_tokens", rollout.max_prompt_tokens),
            answer: ("rollout.max_new_tokens", rollout.max_new_tokens),
            cuts: false,
        }
    }

    fn describe(&self, stage: &StageCommon) -> String {
        let group = self.rollout.group_size;
        format!(
            "grpo, {} steps of {} prompts x {group} completions, at most {} new tokens a step",
            stage.steps,
            stage.batch.size,
            stage.batch.size * group * self.rollout.max_new_tokens
        )
    }

    fn writes_samples(&self, step: u64) -> bool {
        let every = self.samples.every;
        every > 0 && step.is_multiple_of(every)
    }

    fn check(&self, stage: &StageCommon) -> BoundResult {
        let rollout = &self.rollout;
        ensure(rollout.group_size >= 2, || {
            format!(
                "rollout.group_size: must be >= 2, got {} (advantages need siblings)",
                rollout.group_size
            )
        })?;
        rollout.check()?;
        not_negative("advantage.epsilon", self.advantage.epsilon)?;
        let loss = &self.loss;
        for (key, value) in [
            ("loss.clip_low", loss.clip_low),
            ("loss.clip_high", loss.clip_high),
        ] {
            value.map_or(Ok(()), |value| not_negative(key, value))?;
        }
        loss.clip_low
            .map_or(Ok(()), |value| within("loss.clip_low", value, (0.0, 1.0)))?;
        loss.dual_clip.map_or(Ok(()), |value| {
            ensure(value > 1.0, || {
                format!("loss.dual_clip: must be > 1, got {value}")
            })
        })?;
        not_negative("loss.entropy", loss.entropy)?;
        at_least("loss.updates", loss.updates, 1)?;
        ensure(loss.updates <= stage.batch.size, || {
            format!(
                "loss.updates: must be <= batch.size {}, got {} (whole groups go to each update)",
                stage.batch.size, loss.updates
            )
        })?;
        at_least("loss.epochs", loss.epochs, 1)?;
        self.check_correction()?;
        loss.tis_cap
            .map_or(Ok(()), |value| positive("loss.tis_cap", value))?;
        not_negative("kl.coefficient", self.kl.coefficient)?;
        Ok(())
    }
}
