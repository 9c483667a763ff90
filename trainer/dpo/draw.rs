//! The pairs of a step: rows drawn, as two answers of one prompt in token ids.

use std::ops::Range;

use models::Decoder;
use rollout::Prompt;
use tch::{Device, Tensor};

use super::loss::PairNorm;
use crate::TrainError;
use crate::config::{Aggregation, AnswerSelection, DpoConfig};
use crate::draw_stats::DrawStats;
use crate::learn::{Learner, LossNorm, MicroBatch, Trajectory, micro_batches_of};
use crate::learnt_rows::{GivenAnswer, LearntRow, known, of_prompt, on_host};
use crate::loader::{Loader, PromptRequest};
use crate::reference_logprobs::{PairKey, pair_key};
use crate::samples::{GroupRows, StepId};

/// A rank's share of a step's pairs.
pub(super) struct DrawnPairs {
    /// Chosen and rejected in turn; the two of a pair are siblings.
    pub(super) answers: Vec<Trajectory>,
    /// The prompt of each pair.
    prompts: Vec<Prompt>,
    /// Whether each answer is cut off.
    cut: Vec<bool>,
    /// Rows left out for the length of their prompt.
    pub(super) too_long: u64,
    /// What was drawn.
    pub(super) stats: DrawStats,
}

impl DrawnPairs {
    /// Draws `count` pairs over all ranks; answers are cut off at the stage's length.
    ///
    /// # Errors
    /// A bad row, or one that is no pair.
    pub(super) fn draw(
        config: &DpoConfig,
        count: usize,
        loader: &mut dyn Loader,
        learner: &Learner,
    ) -> Result<Self, TrainError> {
        let drawn = loader.prompts(PromptRequest {
            count,
            answers: AnswerSelection::Last,
            longest: config.longest_prompt(),
            attempt: 0,
            balanced: true,
        })?;
        let views = learner.encode_images(&drawn.prompts)?;
        let pairs = drawn.targets.into_iter().zip(drawn.rejected);
        let (mut answers, mut prompts, mut cut) = (Vec::new(), Vec::new(), Vec::new());
        for ((prompt, (chosen, rejected)), view) in drawn.prompts.into_iter().zip(pairs).zip(views)
        {
            for (what, ids) in [("chosen", chosen), ("rejected", rejected)] {
                let mut ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(|| {
                    TrainError::Input(format!(
                        "example {}: it has no `{what}` answer (sources of format: dpo have pairs)",
                        prompt.id
                    ))
                })?;
                check_answer(&learner.model, &prompt.id, &ids)?;
                let room = config.max_tokens - prompt.ids.len();
                cut.push(ids.len() > room);
                ids.truncate(room);
                answers.push(Trajectory {
                    prompt: prompt.ids.clone(),
                    view: view.clone(),
                    sampler_logprobs: vec![0.0; ids.len()],
                    ids,
                    advantage: 0.0,
                });
            }
            prompts.push(prompt);
        }
        Ok(Self {
            answers,
            prompts,
            cut,
            too_long: drawn.too_long,
            stats: drawn.stats,
        })
    }

    /// Other answers in their place, whose prompts nobody asks for.
    pub(super) fn with(self, answers: Vec<Trajectory>) -> Self {
        Self {
            answers,
            prompts: Vec::new(),
            cut: Vec::new(),
            ..self
        }
    }

    /// Pairs, chosen tokens, tokens of all answers.
    pub(super) fn counts(&self) -> [f64; 3] {
        let tokens = |step: usize| -> usize {
            let answers = self.answers.iter().step_by(step);
            answers.map(|answer| answer.ids.len()).sum()
        };
        [
            self.answers.len() as f64 / 2.0,
            tokens(2) as f64,
            tokens(1) as f64,
        ]
    }

    /// The rows of the pairs, of what their passes gave; `text` is that of an answer's tokens.
    ///
    /// # Errors
    /// Passes that left out tokens; libtorch refusing the tensors.
    pub(super) fn learnt(
        &self,
        id: &StepId,
        seen: &SeenPairs,
        text: &dyn Fn(&[i64]) -> String,
    ) -> Result<Vec<GroupRows<LearntRow>>, TrainError> {
        let lacks = || TrainError::Other("a pass has left out pairs".into());
        let logprobs = on_host(&seen.logprobs)?;
        let mut rest = logprobs.as_slice();
        let mut rows = Vec::with_capacity(self.prompts.len());
        for (at, (prompt, answers)) in self.prompts.iter().zip(self.answers.chunks(2)).enumerate() {
            let [loss, margin, chosen, rejected] = *seen.pairs.get(at).ok_or_else(lacks)?;
            let mut both = Vec::with_capacity(2);
            for (index, (answer, reference)) in answers.iter().zip([chosen, rejected]).enumerate() {
                let own = rest.split_off(..answer.ids.len()).ok_or_else(lacks)?;
                let given = GivenAnswer {
                    prompt,
                    index,
                    ids: &answer.ids,
                    text: text(&answer.ids),
                    cut: self.cut[2 * at + index],
                };
                both.push(LearntRow {
                    loss: known(loss),
                    chosen: Some(index == 0),
                    reference_logp: known(reference),
                    margin: known(margin),
                    ..given.row(id, own)
                });
            }
            rows.push(of_prompt(prompt, both));
        }
        Ok(rows)
    }

    /// What tells each pair from others.
    pub(super) fn keys(&self) -> impl Iterator<Item = PairKey> {
        self.answers.chunks(2).map(pair_key)
    }

    /// Micro-batches of whole pairs, up to `budget` rows each.
    pub(super) fn micros(&self, budget: usize, norm: &PairNorm, device: Device) -> Vec<PairMicro> {
        // What divides the loss is the pairs' own; tokens have no weights.
        let unused = LossNorm {
            aggregation: Aggregation::TokenMean,
            tokens: norm.chosen_tokens,
            sequences: norm.pairs,
            constant: 1.0,
        };
        let mut start = 0;
        let micros = micro_batches_of(&self.answers, 2, &unused, (budget, device));
        let own = micros.into_iter().map(|micro| {
            let pairs = start..start + micro.lengths.len() / 2;
            start = pairs.end;
            PairMicro { micro, pairs }
        });
        own.collect()
    }
}

/// What a step's passes have computed of its pairs, in order.
#[derive(Default)]
pub(super) struct SeenPairs {
    /// Log-probabilities of the tokens of all answers.
    pub(super) logprobs: Vec<Tensor>,
    /// Loss and margin of each pair, and both answers' log-probabilities under the reference policy.
    pub(super) pairs: Vec<[f64; 4]>,
}

/// Packed pairs.
pub(super) struct PairMicro {
    /// Their answers, chosen and rejected in turn.
    pub(super) micro: MicroBatch,
    /// Which of the drawn pairs they are.
    pub(super) pairs: Range<usize>,
}

/// Refuses an answer that could never be sampled.
fn check_answer(model: &Decoder, id: &str, ids: &[i64]) -> Result<(), TrainError> {
    let suppressed = model.suppress_tokens();
    match ids.iter().find(|id| suppressed.contains(id)) {
        None => Ok(()),
        Some(token) => Err(TrainError::Input(format!(
            "example {id}: an answer holds token {token}, which marks a picture in a prompt"
        ))),
    }
}
