//! What corrects for completions that the policy would write with other probabilities by now.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, ensure, not_negative, positive};

/// Weights of tokens by the raw ratio r = exp(learner - sampler): how much more probable a token is to the learner, before
/// the step's first update, than it was to what sampled it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorrectionConfig {
    /// Whether r is of each token, or the product over a completion's tokens (then one more forward pass).
    pub level: CorrectionLevel,
    /// What is made of r.
    pub method: CorrectionMethod,
    /// `truncated`: r is raised to this; `masked`: what lies below is not learnt from; >= 0.
    pub low: f64,
    /// `truncated`: r is lowered to this; `masked`: what lies above is not learnt from; > low. (Truncated importance
    /// sampling, Yao et al. 2025, with the usual 2.)
    pub high: f64,
    /// `opsm`: a completion of negative advantage is not learnt from when its mean of sampler - learner is larger, >= 0.
    pub delta: f64,
    /// What the clipped ratio of the loss divides by. `recomputed`: the learner's own log-probabilities before the step's
    /// first update (with one update the ratio is 1 and no pass is needed), and r weighs the loss besides (decoupled).
    /// `sampler`: the sampler's, so that the ratio holds r already; then r is no weight, `masked` leaves out and
    /// `truncated` scales down what lies outside.
    pub anchor: OldLogprobs,
    /// The run ends when policy/kl_mismatch of an update is larger than this, before the update is made; natural log, > 0;
    /// null: it never does.
    pub max_kl_mismatch: Option<f64>,
}

impl Default for CorrectionConfig {
    fn default() -> Self {
        Self {
            level: CorrectionLevel::Token,
            method: CorrectionMethod::Truncated,
            low: 0.0,
            high: 2.0,
            delta: 1e-4,
            anchor: OldLogprobs::Recomputed,
            max_kl_mismatch: None,
        }
    }
}

/// The denominator of the importance ratio when a batch has several updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OldLogprobs {
    /// The sampler's log-probabilities.
    #[default]
    Sampler,
    /// The learner's own before the first update: one more forward pass.
    Recomputed,
}

/// What a correction's ratio is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionLevel {
    /// Each token.
    #[default]
    Token,
    /// All tokens of a completion together.
    Sequence,
}

/// What a correction makes of the ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionMethod {
    /// A weight r, kept within low and high.
    #[default]
    Truncated,
    /// A weight r, and 0 outside low and high (IcePop).
    Masked,
    /// Completions of negative advantage that have become improbable are left out (off-policy sequence masking, DeepSeek
    /// V3.2), all others count as they are.
    Opsm,
    /// Nothing: ratios are only measured, and clipped by the loss.
    None,
}

impl CorrectionConfig {
    /// Whether weights are of whole completions, so that the learner's log-probabilities are needed before the loss.
    pub fn of_sequences(&self) -> bool {
        match self.method {
            CorrectionMethod::Opsm => true,
            CorrectionMethod::None => false,
            CorrectionMethod::Truncated | CorrectionMethod::Masked => {
                self.level == CorrectionLevel::Sequence
            }
        }
    }

    /// What is out of bounds.
    pub(super) fn check(&self) -> BoundResult {
        not_negative("correction.low", self.low)?;
        positive("correction.high", self.high)?;
        ensure(self.low < self.high, || {
            format!(
                "correction.low: must be < high {}, got {}",
                self.high, self.low
            )
        })?;
        not_negative("correction.delta", self.delta)?;
        let scales = self.method == CorrectionMethod::Truncated && self.of_sequences();
        ensure(!scales || self.anchor == OldLogprobs::Recomputed, || {
            "correction.anchor: a truncated weight of whole completions needs `recomputed`; with `sampler` the loss's ratio is of tokens (masked, opsm, or level token)".into()
        })?;
        self.max_kl_mismatch
            .map_or(Ok(()), |most| positive("correction.max_kl_mismatch", most))
    }
}
