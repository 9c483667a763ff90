//! What a DPO stage learns by.

use rollout::data::CurriculumConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, at_least, ensure, not_negative, positive};
use super::common::{BatchConfig, CheckpointConfig, EvalConfig, StageCommon};
use super::learnt_samples::LearntSamplesConfig;
use super::optimizer::OptimizerConfig;
use super::options::{AlgorithmNeeds, AlgorithmOptions, LengthBounds};
use super::pairs::PairsConfig;
use super::sampling::RolloutConfig;

/// Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) on pairs of answers; the
/// reference policy is the stage's first one. Without an `optimizer` section the learning rate is 1e-6,
/// as in TRL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DpoConfig {
    /// Weight of the log-ratios to the reference policy, > 0: the larger, the closer the policy stays to
    /// it. With `ipo` the paper's tau.
    pub beta: f64,
    /// The loss of a pair.
    pub loss: DpoLoss,
    /// Probability that a pair is the wrong way round, in [0, 0.5); with `sigmoid` and `robust`.
    pub label_smoothing: f64,
    /// Weight of the SFT term, >= 0: the mean negative log-probability of the chosen answers' tokens
    /// (RPO's alpha; TRL's loss types `[sigmoid, sft]`).
    pub sft_weight: f64,
    /// Length normalisation: log-ratios are means over an answer's tokens instead of sums (TRL's
    /// `sigmoid_norm`). `ipo` takes means in any case.
    pub average_logprobs: bool,
    /// Where the reference policy's log-probabilities come from.
    pub reference: DpoReference,
    /// Rows whose prompt is longer are passed over, counted; 0: up to max_tokens - 1.
    pub max_prompt_tokens: usize,
    /// Answers are cut off where prompt and answer together are longer, in tokens; >= 2.
    pub max_tokens: usize,
    /// What is written of the answers that are learnt from.
    pub samples: LearntSamplesConfig,
    /// Pairs of its own making, in the place of its sources' ones: the sources then give prompts, and
    /// references to score by.
    pub pairs: Option<PairsConfig>,
}

/// The loss of a pair, from the difference d of the two log-ratios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoLoss {
    /// -log sigmoid(beta d); with label smoothing e, (1 - e) of it and e of that of -d.
    #[default]
    Sigmoid,
    /// The same, unbiased where pairs are flipped with probability e = label_smoothing (Chowdhury et al.
    /// 2024).
    Robust,
    /// max(0, 1 - beta d) (SLiC).
    Hinge,
    /// (d - 1 / (2 beta))^2, d of means over tokens (Azar et al. 2023).
    Ipo,
}

/// Where the reference policy's log-probabilities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoReference {
    /// They are computed once for each pair before the first step and kept in the run folder
    /// (`reference/<stage>.jsonl`): no second network lies in memory.
    #[default]
    Cached,
    /// The frozen policy computes them at each step.
    Policy,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            loss: DpoLoss::default(),
            label_smoothing: 0.0,
            sft_weight: 0.0,
            average_logprobs: false,
            reference: DpoReference::default(),
            max_prompt_tokens: 0,
            max_tokens: 4096,
            samples: LearntSamplesConfig::default(),
            pairs: None,
        }
    }
}

impl DpoConfig {
    /// Tokens of the longest prompt that is learnt from.
    pub fn longest_prompt(&self) -> usize {
        match self.max_prompt_tokens {
            0 => self.max_tokens.saturating_sub(1),
            longest => longest,
        }
    }

    /// Tokens of the longest prompt that candidates are sampled for: it must be learnt from as well.
    pub fn longest_asked(&self, pairs: &PairsConfig) -> usize {
        self.longest_prompt().min(pairs.rollout.max_prompt_tokens)
    }
}

impl AlgorithmOptions for DpoConfig {
    fn common_defaults(&self) -> StageCommon {
        StageCommon {
            name: "dpo".into(),
            steps: 100,
            epochs: None,
            curriculum: CurriculumConfig::default(),
            optimizer: OptimizerConfig {
                // As TRL's DPOConfig.
                learning_rate: 1e-6,
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
        let given = self.pairs.is_none();
        let own = self.pairs.as_ref();
        AlgorithmNeeds {
            target: given,
            pair: given,
            reference: own.is_some_and(|own| own.rubric.is_none() && own.judge.is_none()),
            reference_policy: self.reference == DpoReference::Policy,
        }
    }

    fn rollout(&self) -> Option<&RolloutConfig> {
        self.pairs.as_ref().map(|pairs| &pairs.rollout)
    }

    fn samples(&self) -> usize {
        self.pairs.as_ref().map_or(0, |pairs| pairs.candidates)
    }

    fn pairs(&self) -> Option<&PairsConfig> {
        self.pairs.as_ref()
    }

    fn length_bounds(&self) -> LengthBounds {
        if let Some(pairs) = &self.pairs {
            return LengthBounds {
                prompt: ("pairs.rollout.max_prompt_tokens", self.longest_asked(pairs)),
                answer: ("pairs.rollout.max_new_tokens", pairs.rollout.max_new_tokens),
                cuts: false,
            };
        }
        let prompt = match self.max_prompt_tokens {
            0 => "max_tokens",
            _ => "max_prompt_tokens",
        };
        LengthBounds {
            prompt: (prompt, self.longest_prompt()),
            answer: ("max_tokens", self.max_tokens),
            cuts: true,
        }
    }

    fn describe(&self, stage: &StageCommon) -> String {
        let own = self.pairs.as_ref().map(PairsConfig::describe);
        format!(
            "dpo, {} loss, beta {}, {} steps of {} pairs, at most {} tokens a step{}{}",
            format!("{:?}", self.loss).to_lowercase(),
            self.beta,
            stage.steps,
            stage.batch.size,
            stage.batch.size * 2 * self.max_tokens,
            own.iter().map(|_| "; ").collect::<String>(),
            own.unwrap_or_default()
        )
    }

    fn writes_samples(&self, step: u64) -> bool {
        self.samples.writes(step)
    }

    fn check(&self, stage: &StageCommon) -> BoundResult {
        ensure(!stage.curriculum.observes(), || {
            "curriculum.order: `observed` is for stages that score completions (algorithm: grpo); pairs have no rewards, `staged` fits here".into()
        })?;
        positive("beta", self.beta)?;
        not_negative("sft_weight", self.sft_weight)?;
        let smoothing = self.label_smoothing;
        ensure((0.0..0.5).contains(&smoothing), || {
            format!("label_smoothing: must be in [0, 0.5), got {smoothing}")
        })?;
        let smooths = matches!(self.loss, DpoLoss::Sigmoid | DpoLoss::Robust);
        ensure(smooths || smoothing == 0.0, || {
            format!("label_smoothing: only loss: sigmoid and robust have it, got {smoothing}")
        })?;
        ensure(
            !(self.average_logprobs && self.loss == DpoLoss::Ipo),
            || "average_logprobs: loss: ipo takes means in any case; leave it out".into(),
        )?;
        at_least("max_tokens", self.max_tokens, 2)?;
        ensure(self.max_prompt_tokens < self.max_tokens, || {
            format!(
                "max_prompt_tokens: must be < max_tokens {}, got {} (answers need room)",
                self.max_tokens, self.max_prompt_tokens
            )
        })
    }
}
