//! The policy loss: log-probabilities in, loss and its statistics out.
//!
//! Per token: `-min(rho A, clip(rho) A)`, capped from above by `-c A` for negative A under dual
//! clipping (Ye et al. 2020), times an optional importance weight ([`super::correction`]), plus
//! `beta KL(p || p_ref)`, minus an entropy bonus. Each token's weight already holds the
//! normaliser, so sums over micro-batches and ranks are the loss.

use tch::{Kind, Tensor};

use super::correction::token_weights;
use crate::config::{CorrectionConfig, GrpoConfig, KlEstimator, OldLogprobs, StageCommon};
use crate::learn::{HeadOptions, LossNorm};
use crate::metrics::{Metric, keys};

/// What the loss needs to know of a set of tokens; all `[n]` float32 (float64 in tests).
pub struct TokenTerms<'a> {
    /// Log-probabilities under the policy, with gradient.
    pub logprobs: &'a Tensor,
    /// Entropies of the policy's distributions, with gradient.
    pub entropy: &'a Tensor,
    /// The ratio's denominator; `None` takes the policy's own, detached: the ratio is then 1.
    pub old: Option<&'a Tensor>,
    /// Log-probabilities under the sampler, temperature alone.
    pub sampler: &'a Tensor,
    /// Log-probabilities under the reference policy.
    pub reference: Option<&'a Tensor>,
    /// Advantages.
    pub advantage: &'a Tensor,
    /// Share of each token in the loss: the normaliser of the whole update.
    pub weight: &'a Tensor,
    /// The weights of a correction of whole completions.
    pub correction: Option<&'a Tensor>,
}

/// The options of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct LossOptions {
    /// Lower and upper clip distance of the ratio from 1.
    pub clip: (Option<f64>, Option<f64>),
    /// Cap of the loss of tokens with negative advantage, as a multiple of -A.
    pub dual_clip: Option<f64>,
    /// Weight of the entropy bonus.
    pub entropy: f64,
    /// Weight and estimator of the KL term.
    pub kl: Option<(f64, KlEstimator)>,
    /// Cap of the importance weight; `None`: no weight.
    pub tis_cap: Option<f64>,
    /// What corrects for the sampler, in place of that.
    pub correction: Option<CorrectionConfig>,
}

impl LossOptions {
    /// From a stage's section, with the KL term if it acts in the loss.
    pub fn new(config: &GrpoConfig, kl: Option<(f64, KlEstimator)>) -> Self {
        let correction = config.correction();
        let config = &config.loss;
        Self {
            clip: (config.clip_low, config.clip_high),
            dual_clip: config.dual_clip,
            entropy: config.entropy,
            kl,
            tis_cap: config.tis_cap,
            correction,
        }
    }
}

impl GrpoConfig {
    /// What an update's loss is divided by, given its completion tokens and completions on all ranks.
    pub(super) fn loss_norm(&self, tokens: f64, sequences: f64) -> LossNorm {
        let constant = match self.loss.constant_length {
            0 => self.rollout.max_new_tokens,
            constant => constant,
        };
        LossNorm {
            aggregation: self.loss.aggregation,
            tokens,
            sequences,
            constant: constant as f64,
        }
    }

    /// The vocabulary head at the sampler's temperature.
    pub(super) fn head(&self, common: &StageCommon) -> HeadOptions {
        HeadOptions {
            temperature: self.rollout.temperature,
            rows: common.batch.logit_rows,
        }
    }
}

/// The metrics that [`LossOutput::sums`] add up to, in order.
pub const SUMS: [&Metric; 9] = [
    &keys::POLICY_LOSS,
    &keys::ENTROPY,
    &keys::KL_REF,
    &keys::KL_SAMPLER,
    &keys::RATIO,
    &keys::CLIP_LOW,
    &keys::CLIP_HIGH,
    &keys::RATIO_RAW,
    &keys::KL_MISMATCH,
];

/// The loss of some tokens.
pub struct LossOutput {
    /// Scalar, attached to the graph.
    pub loss: Tensor,
    /// `[9]` float64, detached, named by [`SUMS`]: the weighted policy loss, then sums over tokens.
    pub sums: Tensor,
}

/// The estimate of KL(p || p_ref) from `d = log p_ref - log p` (Schulman 2020).
pub fn kl_estimate(d: &Tensor, estimator: KlEstimator) -> Tensor {
    match estimator {
        KlEstimator::K1 => d.neg(),
        KlEstimator::K2 => d.square() * 0.5,
        KlEstimator::K3 => d.exp() - 1.0 - d,
    }
}

/// The loss of the tokens in `terms`.
pub fn grpo_loss(terms: &TokenTerms, options: &LossOptions) -> LossOutput {
    let own = terms.logprobs.detach();
    let ratio = (terms.logprobs - terms.old.unwrap_or(&own)).exp();
    let (low, high) = options.clip;
    let clipped = ratio.clamp(
        low.map_or(f64::NEG_INFINITY, |low| 1.0 - low),
        high.map_or(f64::INFINITY, |high| 1.0 + high),
    );
    let (plain, bounded) = (&ratio * terms.advantage, &clipped * terms.advantage);
    let mut policy = plain.minimum(&bounded).neg();
    let negative = terms.advantage.lt(0.0);
    if let Some(cap) = options.dual_clip {
        let capped = policy.minimum(&(terms.advantage * -cap));
        policy = capped.where_self(&negative, &policy);
    }
    // The learner before the update: the ratio's denominator, unless that is the sampler.
    let before = match &options.correction {
        Some(correction) if correction.anchor == OldLogprobs::Sampler => &own,
        _ => terms.old.unwrap_or(&own),
    };
    let raw = before - terms.sampler;
    if let Some(cap) = options.tis_cap {
        policy = &policy * raw.exp().clamp_max(cap);
    }
    match (terms.correction, &options.correction) {
        (Some(weights), _) => policy = &policy * weights.to_kind(policy.kind()),
        (None, Some(correction)) if !correction.of_sequences() => {
            policy = &policy * token_weights(&raw, correction).to_kind(policy.kind());
        }
        (None, _) => {}
    }
    let mut token = policy.shallow_clone();
    let mut kl_ref = own.zeros_like();
    if let Some(reference) = terms.reference {
        let d = reference - terms.logprobs;
        let estimator = options
            .kl
            .map_or(KlEstimator::K3, |(_, estimator)| estimator);
        let kl = kl_estimate(&d, estimator);
        kl_ref = kl.detach();
        if let Some((coefficient, _)) = options.kl {
            token = &token + kl * coefficient;
        }
    }
    if options.entropy != 0.0 {
        token = &token - terms.entropy * options.entropy;
    }
    let ratio = ratio.detach();
    let outside = |side: Tensor| side.to_kind(Kind::Double);
    let clip_low = low.map_or_else(
        || own.zeros_like().to_kind(Kind::Double),
        |low| outside(ratio.lt(1.0 - low).logical_and(&negative)),
    );
    let clip_high = high.map_or_else(
        || own.zeros_like().to_kind(Kind::Double),
        |high| outside(ratio.gt(1.0 + high).logical_and(&terms.advantage.gt(0.0))),
    );
    let wide = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double);
    let sums = Tensor::stack(
        &[
            (wide(&policy) * wide(terms.weight)).sum(Kind::Double),
            wide(terms.entropy).sum(Kind::Double),
            wide(&kl_ref).sum(Kind::Double),
            wide(&kl_estimate(&(&own - terms.sampler), KlEstimator::K3)).sum(Kind::Double),
            wide(&ratio).sum(Kind::Double),
            clip_low.sum(Kind::Double),
            clip_high.sum(Kind::Double),
            wide(&raw).exp().sum(Kind::Double),
            wide(&kl_estimate(&raw, KlEstimator::K3)).sum(Kind::Double),
        ],
        0,
    );
    LossOutput {
        loss: (token * terms.weight).sum(terms.logprobs.kind()),
        sums,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RLRF's clip of 0.4 on both sides, against the formula by hand: `-min(rho A, clip(rho, 0.6, 1.4) A)`.
    #[test]
    fn a_clip_of_two_fifths_bounds_the_ratio_at_0_6_and_1_4() {
        let ratios = [0.5, 0.61, 1.0, 1.39, 1.5, 0.5, 1.5];
        let advantages = [2.0, 2.0, 2.0, 2.0, 2.0, -1.0, -1.0];
        let wanted = [-1.0, -1.22, -2.0, -2.78, -2.8, 0.6, 1.5];
        let slopes = [-1.0, -1.22, -2.0, -2.78, 0.0, 0.0, 1.5];
        let zeros = Tensor::from_slice(&[0.0f64; 7]);
        let logprobs = Tensor::from_slice(&ratios.map(f64::ln)).set_requires_grad(true);
        let options = LossOptions {
            clip: (Some(0.4), Some(0.4)),
            dual_clip: None,
            entropy: 0.0,
            kl: None,
            tis_cap: None,
            correction: None,
        };
        let loss = grpo_loss(
            &TokenTerms {
                logprobs: &logprobs,
                entropy: &zeros,
                old: Some(&zeros),
                sampler: &zeros,
                reference: None,
                advantage: &Tensor::from_slice(&advantages),
                weight: &Tensor::from_slice(&[1.0f64; 7]),
                correction: None,
            },
            &options,
        )
        .loss;
        let found = loss.double_value(&[]);
        let want: f64 = wanted.iter().sum();
        assert!((found - want).abs() < 1e-12, "{found} {want}");
        loss.backward();
        let gradient = Vec::<f64>::try_from(logprobs.grad()).unwrap();
        for (found, want) in gradient.iter().zip(slopes) {
            assert!((found - want).abs() < 1e-12, "{gradient:?}");
        }
    }
}
