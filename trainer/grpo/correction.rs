//! Weights of tokens whose sampler was not the policy that learns: values in, values out.
//!
//! Of the raw log-ratio x = learner - sampler of each token, or of its sum over a completion (level `sequence`),
//! r = exp(x): truncated importance sampling (Yao et al. 2025) weighs by r within bounds, IcePop masks what is outside,
//! off-policy sequence masking (DeepSeek V3.2) leaves out completions of negative advantage whose mean of sampler - learner
//! is too large. Where the loss's own ratio is to the sampler it holds r already, and a weight says only what of it stays.

use tch::{Kind, Tensor};

use crate::config::{CorrectionConfig, CorrectionMethod, OldLogprobs};

/// What a set of completions' tokens weigh in the loss, `[n]` float64, without gradient: of `raw` `[n]`, the raw log-ratios.
/// Every token for itself, so only of corrections that are not [of sequences](CorrectionConfig::of_sequences).
pub fn token_weights(raw: &Tensor, correction: &CorrectionConfig) -> Tensor {
    weigh(&raw.detach().to_kind(Kind::Double), correction)
}

/// The same of any correction, given the advantage `[n]` of each token and the completions' lengths, which add up to n.
pub fn completion_weights(
    raw: &Tensor,
    advantage: &Tensor,
    lengths: &[usize],
    correction: &CorrectionConfig,
) -> Tensor {
    if !correction.of_sequences() {
        return token_weights(raw, correction);
    }
    let raw = raw.detach().to_kind(Kind::Double);
    let mut start = 0;
    let weights: Vec<Tensor> = lengths
        .iter()
        .map(|len| {
            let len = *len as i64;
            let own = raw.narrow(0, start, len);
            let negative = advantage.double_value(&[start]) < 0.0;
            start += len;
            let weight = match correction.method {
                CorrectionMethod::Opsm => {
                    let drift = -own.mean(Kind::Double);
                    let left_out = drift.gt(correction.delta);
                    match negative {
                        true => left_out.logical_not().to_kind(Kind::Double),
                        false => drift.ones_like(),
                    }
                }
                _ => weigh(&own.sum(Kind::Double), correction),
            };
            weight.expand([len], false)
        })
        .collect();
    match weights.is_empty() {
        true => raw,
        false => Tensor::cat(&weights, 0),
    }
}

/// The weight of each raw log-ratio, whatever it is of.
fn weigh(raw: &Tensor, correction: &CorrectionConfig) -> Tensor {
    let ratio = raw.exp();
    let (low, high) = (correction.low, correction.high);
    // What the loss's ratio holds already.
    let held = match correction.anchor {
        OldLogprobs::Recomputed => ratio.ones_like(),
        OldLogprobs::Sampler => ratio.shallow_clone(),
    };
    match correction.method {
        CorrectionMethod::Truncated => ratio.clamp(low, high) / held,
        CorrectionMethod::Masked => {
            let within = ratio.ge(low).logical_and(&ratio.le(high));
            (ratio / held) * within.to_kind(Kind::Double)
        }
        CorrectionMethod::Opsm | CorrectionMethod::None => raw.ones_like(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CorrectionLevel;

    /// Old and new log-probabilities of two completions, the first better than the second.
    const OLD: [f64; 5] = [-0.5, -1.2, -2.0, -0.7, -0.3];
    const NOW: [f64; 5] = [-0.4, -1.5, -1.5, -0.9, -0.25];
    const ADVANTAGE: [f64; 5] = [1.0, 1.0, 1.0, -0.5, -0.5];

    fn raw() -> Tensor {
        Tensor::from_slice(&NOW) - Tensor::from_slice(&OLD)
    }

    fn weights(correction: &CorrectionConfig) -> Vec<f64> {
        let advantage = Tensor::from_slice(&ADVANTAGE);
        Vec::try_from(completion_weights(&raw(), &advantage, &[3, 2], correction)).unwrap()
    }

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
    }

    #[test]
    fn off_policy_masks_leave_out_bad_completions_that_became_improbable() {
        // The means of old - new are -0.1 and +0.075.
        let opsm = |delta| CorrectionConfig {
            method: CorrectionMethod::Opsm,
            delta,
            ..CorrectionConfig::default()
        };
        close(&weights(&opsm(1e-4)), &[1.0, 1.0, 1.0, 0.0, 0.0]);
        close(&weights(&opsm(0.0749)), &[1.0, 1.0, 1.0, 0.0, 0.0]);
        close(&weights(&opsm(0.0751)), &[1.0; 5]);
    }

    #[test]
    fn ratios_are_truncated_or_masked_by_token_and_by_completion() {
        let of = |level, method, (low, high)| CorrectionConfig {
            level,
            method,
            low,
            high,
            ..CorrectionConfig::default()
        };
        use CorrectionLevel::{Sequence, Token};
        use CorrectionMethod::{Masked, Truncated};
        let ratio = |at: usize| (NOW[at] - OLD[at]).exp();
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(ratio);
        close(
            &weights(&of(Token, Truncated, (0.8, 1.2))),
            &[a, 0.8, 1.2, d, e],
        );
        close(
            &weights(&of(Token, Masked, (0.8, 1.2))),
            &[a, 0.0, 0.0, d, e],
        );
        // The products are exp(0.3) and exp(-0.15).
        let (first, second) = (0.3f64.exp(), (-0.15f64).exp());
        let both = |x, y| [x, x, x, y, y];
        close(
            &weights(&of(Sequence, Truncated, (0.0, 1.2))),
            &both(1.2, second),
        );
        close(
            &weights(&of(Sequence, Masked, (0.9, 2.0))),
            &both(first, 0.0),
        );
        let anchored = |method| CorrectionConfig {
            anchor: OldLogprobs::Sampler,
            ..of(Token, method, (0.8, 1.2))
        };
        close(&weights(&anchored(Masked)), &[1.0, 0.0, 0.0, 1.0, 1.0]);
        close(
            &weights(&anchored(Truncated)),
            &[1.0, 0.8 / b, 1.2 / c, 1.0, 1.0],
        );
        close(
            &weights(&of(Token, CorrectionMethod::None, (0.8, 1.2))),
            &[1.0; 5],
        );
    }
}
