//! Whether a server has the learner's weights: a greedy completion whose log-probabilities are the learner's, and what
//! the server's log-probabilities are of.

use std::sync::Arc;

use models::{Decoder, LmInput, catch_torch};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::answer::{Ask, ServerAnswer};
use crate::RolloutError;
use crate::engine::Sampling;

/// What is continued, where there is a tokenizer.
const WORDS: &str = "Draw a red circle beside a blue square as SVG.";

/// What a server's log-probabilities are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LogprobKind {
    /// The network's distribution, temperature and all else left out.
    Raw,
    /// The distribution under temperature.
    Tempered,
    /// The distribution that is drawn from.
    Processed,
}

impl LogprobKind {
    /// Whether they are under temperature alone when sampled like this.
    ///
    /// # Errors
    /// Why not, and what would be.
    pub(super) fn fits(self, sampling: &Sampling) -> Result<(), String> {
        let warm = sampling.temperature != 1.0 && sampling.temperature != 0.0;
        let filters = sampling.top_p < 1.0 || sampling.top_k > 0 || sampling.min_p > 0.0;
        match self {
            Self::Raw if warm => Err(format!(
                "its log-probabilities leave the temperature out, and {} is asked for (start vLLM with --logprobs-mode processed_logprobs, or sample at temperature 1)",
                sampling.temperature
            )),
            Self::Processed if filters => Err(
                "its log-probabilities are of what top_p, top_k or min_p leave over (start vLLM without --logprobs-mode, which is right at temperature 1, or sample without these)".into(),
            ),
            _ => Ok(()),
        }
    }

    /// Whether keeping ids from being drawn changes no log-probability.
    pub(super) fn leaves_bans_out(self) -> bool {
        self == Self::Raw
    }
}

/// The prompt of probes.
pub(super) fn probe_prompt(
    policy: &Decoder,
    words: impl Fn(&str) -> Option<Vec<i64>>,
) -> Arc<[i64]> {
    let rows = policy.config.vocab_size;
    let ids = words(WORDS).filter(|ids| !ids.is_empty());
    // Any ids will do for a policy of token ids alone.
    let any = || {
        (1..=12)
            .map(|at| crate::mix(7, at) as i64 & i64::MAX)
            .map(|id| id % rows)
            .collect()
    };
    ids.unwrap_or_else(any).into()
}

/// A probe's request: `sampling` says how, and nothing ends it but its length.
pub(super) fn probe_ask(id: String, prompt: &Arc<[i64]>, sampling: Sampling) -> Ask {
    Ask {
        id,
        ids: prompt.clone(),
        expanded: prompt.clone(),
        pictures: Arc::default(),
        sampling,
        stop_ids: Arc::default(),
        banned: Arc::default(),
        seed: 7,
    }
}

/// A greedy probe's sampling, `tokens` long.
pub(super) fn greedy(tokens: usize) -> Sampling {
    Sampling {
        temperature: 0.0,
        max_new_tokens: tokens,
        ..Sampling::default()
    }
}

/// The learner's log-probability of each token of `completion` after `prompt` under a temperature, natural log.
///
/// # Errors
/// libtorch's.
pub(super) fn judge(
    policy: &Decoder,
    (prompt, completion): (&[i64], &[i64]),
    temperature: f64,
) -> Result<Vec<f32>, RolloutError> {
    let compute = || -> Result<Vec<f32>, RolloutError> {
        let mut input = LmInput::builder();
        input.push(
            &[prompt, &completion[..completion.len() - 1]].concat(),
            None,
        );
        let hidden = policy.hidden(&input.build(policy.device()));
        let rows = hidden.narrow(0, prompt.len() as i64 - 1, completion.len() as i64);
        let logits = policy.logits(&rows).to_kind(Kind::Float) / temperature;
        let all = logits.log_softmax(-1, Kind::Float);
        let ids = Tensor::from_slice(completion)
            .to_device(policy.device())
            .unsqueeze(-1);
        let own = all.gather(-1, &ids, false);
        Ok(Vec::<f32>::try_from(own.view(-1)).map_err(models::ModelError::from)?)
    };
    catch_torch(|| tch::no_grad(compute)).map_err(RolloutError::Torch)?
}

/// The largest difference of log-probabilities; NaN where one is none.
fn gap(a: &[f32], b: &[f32]) -> f64 {
    let gaps = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    gaps.fold(0.0, |most, gap| {
        if gap.is_nan() || gap > most {
            gap
        } else {
            most
        }
    })
}

/// Whether a gap is within its bound; one that is no number is not.
pub(super) fn within(gap: f64, bound: f64) -> bool {
    gap <= bound
}

/// How far a server's greedy answer is from what the learner says of it: the largest difference of a log-probability.
///
/// # Errors
/// libtorch's.
pub(super) fn greedy_gap(
    policy: &Decoder,
    prompt: &[i64],
    answer: &ServerAnswer,
) -> Result<f64, RolloutError> {
    let own = judge(policy, (prompt, &answer.ids), 1.0)?;
    Ok(gap(&own, &answer.logprobs))
}

/// How far two greedy answers are apart, up to the first token that differs (where two were as probable).
pub(super) fn answers_gap(a: &ServerAnswer, b: &ServerAnswer) -> f64 {
    let same = a.ids.iter().zip(&b.ids).take_while(|(a, b)| a == b).count();
    match same {
        0 => f64::INFINITY,
        _ => gap(&a.logprobs[..same], &b.logprobs[..same]),
    }
}

/// What a server's log-probabilities are of, from its answers at temperature 0.5 and with `top_p` 0.3; `None` where they
/// are none of the learner's.
///
/// # Errors
/// libtorch's.
pub(super) fn logprob_kind(
    policy: &Decoder,
    prompt: &[i64],
    (half, nucleus): (&ServerAnswer, &ServerAnswer),
    bound: f64,
) -> Result<Option<LogprobKind>, RolloutError> {
    let at = |temperature| judge(policy, (prompt, &half.ids), temperature);
    let raw = gap(&at(1.0)?, &half.logprobs);
    let tempered = gap(&at(0.5)?, &half.logprobs);
    if !within(raw.min(tempered), bound) {
        return Ok(None);
    }
    if raw <= tempered {
        return Ok(Some(LogprobKind::Raw));
    }
    let whole = gap(
        &judge(policy, (prompt, &nucleus.ids), 1.0)?,
        &nucleus.logprobs,
    );
    Ok(Some(match within(whole, bound) {
        true => LogprobKind::Tempered,
        false => LogprobKind::Processed,
    }))
}

/// How the two answers of [`logprob_kind`] are asked for.
pub(super) fn kind_samplings() -> [Sampling; 2] {
    let max_new_tokens = 8;
    let half = Sampling {
        temperature: 0.5,
        max_new_tokens,
        ..Sampling::default()
    };
    let nucleus = Sampling {
        top_p: 0.3,
        max_new_tokens,
        ..Sampling::default()
    };
    [half, nucleus]
}
