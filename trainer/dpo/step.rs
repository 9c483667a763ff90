//! One DPO step (Rafailov et al. 2023, arXiv 2305.18290): the policy raises the chosen answer of each
//! pair over the rejected one, measured by log-ratios to the reference policy, its own start.
//!
//! Left out on purpose: a second pass over the same pairs within a step, and a reference policy that
//! moves (TR-DPO).

use std::time::Instant;

use tch::{Kind, Tensor};

use super::draw::{DrawnPairs, PairMicro, SeenPairs};
use super::loss::{PairLossOptions, PairNorm, PairTerms, SUMS, dpo_loss, of_pairs, sequence_sums};
use super::reference::{known_logprobs, policy_logprobs};
use crate::TrainError;
use crate::algorithm::{Algorithm, PrepareContext, Prepared, StepContext, StepEnd};
use crate::config::{AlgorithmOptions, DpoConfig};
use crate::learn::HeadOptions;
use crate::metrics::{Metrics, keys};
use crate::samples::to_leader;
use crate::step_samples::StepSamples;
use crate::telemetry::{self, Phase};

/// What is learnt at each update.
const LEARNS: &[Phase] = &[Phase::ForwardBackward, Phase::Reduce, Phase::Optim];

impl Algorithm for DpoConfig {
    fn prepare(&self, cx: &mut PrepareContext) -> Result<Prepared, TrainError> {
        self.reference_logprobs(cx)
    }

    fn step(&self, cx: &mut StepContext) -> Result<StepEnd, TrainError> {
        let started = Instant::now();
        telemetry::start_step();
        let before = cx.loader.state();
        let learning = Phase::ForwardBackward.enter();

        // 1. This rank's pairs, and the counts over all ranks that divide the loss.
        let batch = &cx.stage.common.batch;
        let drawn = DrawnPairs::draw(self, batch.size, cx.loader, cx.learner)?;
        let [pairs, chosen_tokens, tokens] = cx.stage.ranks.sum(drawn.counts())?;
        let norm = PairNorm {
            pairs,
            chosen_tokens,
        };

        // 2. Loss and gradients, some whole pairs at a time.
        let known = known_logprobs(cx, &drawn)?;
        let (mut sums, mut seen) = ([0.0; SUMS.len()], SeenPairs::default());
        let parts = drawn.micros(batch.micro_tokens, &norm, cx.learner.device());
        let passes = cx.learner.passes(parts.len())?;
        for pass in 0..passes {
            telemetry::progress(pass, passes);
            if cx.learner.stops(cx.stage.interrupt.expired())? {
                break;
            }
            let Some(part) = parts.get(pass) else {
                idle(cx)?;
                continue;
            };
            let own = self.forward_backward(cx, part, (&norm, known.as_ref()), &mut seen)?;
            for (sum, value) in sums.iter_mut().zip(own) {
                *sum += value;
            }
        }
        if cx.stage.ranks.any(cx.stage.interrupt.expired())? {
            return cx.drop_step(&before);
        }
        let sums = cx.stage.ranks.sum(sums)?;
        drop(learning);
        let rows = match self.writes_samples(cx.step) {
            true => {
                let own = drawn.learnt(&cx.id(), &seen, &|ids| cx.loader.answer_text(ids))?;
                to_leader(&cx.stage.ranks, own)?
            }
            false => Vec::new(),
        };

        // 3. One update.
        let update = cx.update(sums[0])?;
        let step_s = started.elapsed().as_secs_f64();
        let mut metrics = Metrics::new();
        for (metric, sum) in SUMS.iter().zip(sums) {
            metrics.set(metric, sum);
        }
        metrics.set(&keys::TOKENS_MEAN, tokens / (2.0 * pairs).max(1.0));
        metrics.set(&keys::LR, cx.learning_rate());
        metrics.set(&keys::GRAD_NORM, update.grad_norm);
        metrics.set(&keys::SKIPPED, f64::from(!update.applied));
        metrics.set(&keys::LONG_PROMPTS, drawn.too_long as f64);
        telemetry::add_times(LEARNS, &mut metrics);
        metrics.set(&keys::TIME_STEP, step_s);
        metrics.set(&keys::TOKENS_PER_S, tokens / step_s);
        metrics.extend(drawn.stats.metrics(cx.loader.spreads()));
        Ok(StepEnd::Done {
            metrics,
            rows: StepSamples::Learnt(rows),
            tokens: tokens as u64,
        })
    }
}

/// A pass without pairs, where other ranks have some.
fn idle(cx: &mut StepContext) -> Result<(), TrainError> {
    cx.stage.reference.idle(cx.learner)?;
    cx.learner.idle()
}

impl DpoConfig {
    /// Accumulates the gradients of one micro-batch and adds what it computes to `seen`; returns its share of [`SUMS`].
    /// `known` are the pairs'
    /// log-probabilities under the reference policy `[P, 2]`, where they are cached.
    fn forward_backward(
        &self,
        cx: &mut StepContext,
        PairMicro { micro, pairs }: &PairMicro,
        (norm, known): (&PairNorm, Option<&Tensor>),
        seen: &mut SeenPairs,
    ) -> Result<Vec<f64>, TrainError> {
        let device = cx.learner.device();
        let head = HeadOptions {
            temperature: 1.0,
            rows: cx.stage.common.batch.logit_rows,
        };
        let reference = match known {
            Some(known) => known.narrow(0, pairs.start as i64, pairs.len() as i64),
            None => policy_logprobs(cx, micro, &head)?,
        };
        let lengths: Vec<f64> = micro.lengths.iter().map(|len| *len as f64).collect();
        let lengths = Tensor::from_slice(&lengths).to_device(device);
        let [reference_chosen, reference_rejected] = of_pairs(&reference);
        let [chosen_tokens, rejected_tokens] = of_pairs(&lengths);
        let options = PairLossOptions::from(self);
        let mut sums = Tensor::zeros([SUMS.len() as i64], (Kind::Double, device));
        let mut each = Tensor::zeros([2, 0], (Kind::Double, device));
        cx.learner
            .forward_backward_whole(micro, &head, &mut |logprobs| {
                let [chosen, rejected] = of_pairs(&sequence_sums(logprobs, &micro.lengths));
                let terms = PairTerms {
                    chosen: &chosen,
                    rejected: &rejected,
                    reference_chosen: &reference_chosen,
                    reference_rejected: &reference_rejected,
                    chosen_tokens: &chosen_tokens,
                    rejected_tokens: &rejected_tokens,
                };
                let output = dpo_loss(&terms, &options, norm);
                (sums, each) = (output.sums, output.each);
                seen.logprobs.push(logprobs.detach());
                output.loss
            })?;
        let both = [&reference_chosen, &reference_rejected].map(|own| own.to_kind(Kind::Double));
        let each = Tensor::cat(&[each, Tensor::stack(&both, 0)], 0).transpose(0, 1);
        let each: Vec<Vec<f64>> = Vec::try_from(each).map_err(of_torch)?;
        let four = |own: &Vec<f64>| <[f64; 4]>::try_from(own.as_slice()).ok();
        seen.pairs.extend(each.iter().filter_map(four));
        Vec::<f64>::try_from(sums).map_err(of_torch)
    }
}

fn of_torch(error: tch::TchError) -> TrainError {
    TrainError::Learner(error.to_string())
}
