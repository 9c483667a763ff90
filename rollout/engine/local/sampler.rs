//! From logits and one uniform number per row to tokens: inversion through the distribution.
//!
//! Temperature, then top-k, top-p and min-p, as transformers orders them. The log-probability of
//! the token is given twice: under temperature alone, and under the distribution drawn from.

use tch::{Device, Kind, Tensor};

use crate::RolloutError;
use crate::engine::Sampling;

/// One token per row.
#[derive(Debug)]
pub struct SampledTokens {
    /// Token ids.
    pub ids: Vec<i64>,
    /// Natural log-probabilities under temperature alone.
    pub logprobs: Vec<f32>,
    /// Natural log-probabilities under the distribution drawn from.
    pub drawn_logprobs: Vec<f32>,
}

/// [`SampledTokens`] where they were drawn, `[n, 1]` each.
#[derive(Debug)]
pub(super) struct DrawnTokens {
    ids: Tensor,
    logprobs: Tensor,
    drawn_logprobs: Tensor,
}

impl DrawnTokens {
    /// The ids `[n]`.
    pub(super) fn ids(&self) -> Tensor {
        self.ids.view(-1)
    }

    /// All of them as one tensor `[n, 3]` float64, which holds each exactly.
    pub(super) fn packed(&self) -> Tensor {
        let wide = |x: &Tensor| x.to_kind(Kind::Double);
        Tensor::cat(
            &[&self.ids, &self.logprobs, &self.drawn_logprobs].map(wide),
            1,
        )
    }

    /// In host memory: from a GPU with one copy.
    fn read(&self) -> Result<SampledTokens, RolloutError> {
        if self.ids.device() != Device::Cpu {
            return SampledTokens::unpack(&self.packed());
        }
        let read = |values: &Tensor| {
            Vec::<f32>::try_from(values.view(-1)).map_err(models::ModelError::from)
        };
        SampledTokens {
            ids: Vec::<i64>::try_from(self.ids()).map_err(models::ModelError::from)?,
            logprobs: read(&self.logprobs)?,
            drawn_logprobs: read(&self.drawn_logprobs)?,
        }
        .checked()
    }
}

impl SampledTokens {
    /// [`DrawnTokens::packed`] in host memory.
    ///
    /// # Errors
    /// Log-probabilities that are not numbers.
    pub(super) fn unpack(packed: &Tensor) -> Result<Self, RolloutError> {
        let packed = packed.to_device(Device::Cpu);
        let numbers = Vec::<f64>::try_from(packed.view(-1)).map_err(models::ModelError::from)?;
        let column = |at: usize| numbers.iter().skip(at).step_by(3);
        Self {
            ids: column(0).map(|id| *id as i64).collect(),
            logprobs: column(1).map(|value| *value as f32).collect(),
            drawn_logprobs: column(2).map(|value| *value as f32).collect(),
        }
        .checked()
    }

    fn checked(self) -> Result<Self, RolloutError> {
        match self.logprobs.iter().any(|value| value.is_nan()) {
            true => Err(RolloutError::Torch(
                "the policy's logits are not numbers (NaN): its weights are broken".into(),
            )),
            false => Ok(self),
        }
    }
}

/// Draws tokens.
#[derive(Debug)]
pub struct Sampler {
    pub(super) sampling: Sampling,
    /// Ids that are never drawn, `[n]`.
    suppressed: Option<Tensor>,
}

impl Sampler {
    /// A sampler of checked values that never draws one of `suppressed`, such as the image tokens of a policy that sees.
    pub fn suppressing(sampling: Sampling, suppressed: &[i64], device: Device) -> Self {
        Self {
            sampling,
            suppressed: (!suppressed.is_empty())
                .then(|| Tensor::from_slice(suppressed).to_device(device)),
        }
    }

    /// Draws one token per row of `logits [n, V]` float32 with one of `uniforms` in [0, 1) each.
    ///
    /// # Errors
    /// Logits that are not numbers.
    pub fn sample_tokens(
        &self,
        logits: &Tensor,
        uniforms: &[f64],
    ) -> Result<SampledTokens, RolloutError> {
        let uniforms = Tensor::from_slice(uniforms).to_device(logits.device());
        self.draw(logits, &uniforms).read()
    }

    /// [`Self::sample_tokens`] with `uniforms [n]` float64 on the logits' device, without waiting for it.
    pub(super) fn draw(&self, logits: &Tensor, uniforms: &Tensor) -> DrawnTokens {
        let greedy = self.sampling.temperature == 0.0;
        let scaled = if greedy || self.sampling.temperature == 1.0 {
            logits.shallow_clone()
        } else {
            logits / self.sampling.temperature
        };
        let logprobs = scaled.log_softmax(-1, Kind::Float);
        // Among the others alone: what is suppressed may hold all the probability that float32 can show.
        let allowed = match &self.suppressed {
            None => logprobs.shallow_clone(),
            Some(suppressed) => scaled
                .index_fill(-1, suppressed, f64::NEG_INFINITY)
                .log_softmax(-1, Kind::Float),
        };
        let (ids, drawn) = if greedy {
            let ids = allowed.argmax(-1, true);
            let zeros = ids.zeros_like().to_kind(Kind::Float);
            (ids, zeros)
        } else {
            let mut probs = allowed.exp();
            if self.sampling.filters() {
                probs = probs.where_self(&self.kept(&probs), &probs.zeros_like());
            }
            let cumulative = probs.cumsum(-1, Kind::Double);
            let total = cumulative.narrow(-1, -1, 1);
            let target = uniforms.unsqueeze(-1) * &total;
            let ids = target
                .searchsorted(&cumulative, false, true, "right", None::<&Tensor>)
                .clamp_max(logits.size()[1] - 1);
            let drawn = allowed.gather(-1, &ids, false) - total.log().to_kind(Kind::Float);
            (ids, drawn)
        };
        DrawnTokens {
            logprobs: logprobs.gather(-1, &ids, false),
            drawn_logprobs: drawn,
            ids,
        }
    }

    /// Which tokens of `probs [n, V]` stay, `[n, V]` bool.
    fn kept(&self, probs: &Tensor) -> Tensor {
        let Sampling {
            top_p,
            top_k,
            min_p,
            ..
        } = self.sampling;
        let (sorted, order) = probs.sort(-1, true);
        let vocab = probs.size()[1];
        let rank = Tensor::arange(vocab, (Kind::Int64, probs.device()));
        let mut keep = rank
            .lt(if top_k > 0 { top_k.min(vocab) } else { vocab })
            .expand_as(&sorted);
        if top_p < 1.0 {
            let among = &sorted * keep.to_kind(Kind::Float);
            let share = &among / among.sum_dim_intlist(-1, true, Kind::Float);
            keep = keep.logical_and(&(share.cumsum(-1, Kind::Double) - &share).lt(top_p));
        }
        if min_p > 0.0 {
            keep = keep.logical_and(&sorted.ge_tensor(&(sorted.narrow(-1, 0, 1) * min_p)));
        }
        keep.zeros_like().scatter(-1, &order, &keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(sampling: Sampling, uniform: f64) -> SampledTokens {
        let logits = Tensor::from_slice(&[0.5f32, 0.25, 0.125, 0.125])
            .log()
            .unsqueeze(0);
        Sampler::suppressing(sampling, &[], Device::Cpu)
            .sample_tokens(&logits, &[uniform])
            .expect("finite logits")
    }

    #[test]
    fn a_uniform_is_inverted_through_the_distribution() {
        let ids: Vec<i64> = [0.0, 0.49, 0.51, 0.76, 0.99]
            .iter()
            .map(|&u| draw(Sampling::default(), u).ids[0])
            .collect();
        assert_eq!(ids, [0, 0, 1, 2, 3]);
        assert!((draw(Sampling::default(), 0.6).logprobs[0] - 0.25f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn filters_renormalise_what_is_drawn_but_not_the_logged_probability() {
        for sampling in [
            Sampling {
                top_k: 2,
                ..Sampling::default()
            },
            Sampling {
                top_p: 0.7,
                ..Sampling::default()
            },
            Sampling {
                min_p: 0.4,
                ..Sampling::default()
            },
        ] {
            let drawn = draw(sampling, 0.99);
            assert_eq!(drawn.ids, [1]);
            assert!((drawn.logprobs[0] - 0.25f32.ln()).abs() < 1e-6);
            assert!((drawn.drawn_logprobs[0] - (1.0f32 / 3.0).ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn zero_temperature_takes_the_most_probable() {
        assert_eq!(
            draw(
                Sampling {
                    temperature: 0.0,
                    ..Sampling::default()
                },
                0.99
            )
            .ids,
            [0]
        );
    }
}
