//! One SFT step: the negative log-probability of the targets' tokens, prompts excluded. A conversation
//! of several turns is a sequence for each answer that is learnt, with what was said before it as the
//! prompt: the chat template puts earlier turns as it does when the policy answers.

use std::time::Instant;

use crate::TrainError;
use crate::algorithm::{Algorithm, StepContext, StepEnd};
use crate::config::{Aggregation, SftConfig};
use crate::draw_stats::DrawStats;
use crate::learn::{HeadOptions, Learner, LossNorm, MicroBatch, Trajectory, micro_batches};
use crate::loader::PromptRequest;
use crate::metrics::{Metrics, keys};
use crate::telemetry::{self, Phase};

/// What is learnt at each update.
const LEARNS: &[Phase] = &[Phase::ForwardBackward, Phase::Reduce, Phase::Optim];

/// This rank's share of a step's sequences.
struct Sequences {
    own: Vec<Trajectory>,
    too_long: u64,
    draws: DrawStats,
}

impl Algorithm for SftConfig {
    fn step(&self, cx: &mut StepContext) -> Result<StepEnd, TrainError> {
        let started = Instant::now();
        telemetry::start_step();
        let before = cx.loader.state();
        let learning = Phase::ForwardBackward.enter();
        let sequences = self.sequences(cx)?;
        let own_tokens: usize = sequences.own.iter().map(|one| one.ids.len()).sum();
        let own_weights = sequences
            .own
            .iter()
            .map(|one| one.advantage * one.ids.len() as f64);
        let own = [
            own_tokens as f64,
            sequences.own.len() as f64,
            own_weights.sum(),
        ];
        let [tokens, count, weights] = cx.stage.ranks.sum(own)?;
        // A mean over tokens, each with its answer's weight.
        let norm = LossNorm {
            aggregation: Aggregation::TokenMean,
            tokens: weights,
            sequences: count,
            constant: 1.0,
        };
        let batch = &cx.stage.common.batch;
        let head = HeadOptions {
            temperature: 1.0,
            rows: batch.logit_rows,
        };
        let mut loss = 0.0;
        for micro in micro_batches(
            &sequences.own,
            &norm,
            batch.micro_tokens,
            cx.learner.device(),
        ) {
            if cx.stage.interrupt.expired() {
                break;
            }
            loss += forward_backward(cx.learner, &micro, &head)?;
        }
        if cx.stage.ranks.any(cx.stage.interrupt.expired())? {
            return cx.drop_step(&before);
        }
        let [loss] = cx.stage.ranks.sum([loss])?;
        drop(learning);
        let update = cx.update(loss)?;
        let step_s = started.elapsed().as_secs_f64();
        let mut metrics = Metrics::new();
        metrics.set(&keys::SFT_LOSS, loss);
        metrics.set(&keys::TOKENS_MEAN, tokens / count.max(1.0));
        metrics.set(&keys::LR, cx.learning_rate());
        metrics.set(&keys::GRAD_NORM, update.grad_norm);
        metrics.set(&keys::SKIPPED, f64::from(!update.applied));
        metrics.set(&keys::LONG_PROMPTS, sequences.too_long as f64);
        telemetry::add_times(LEARNS, &mut metrics);
        metrics.set(&keys::TIME_STEP, step_s);
        metrics.set(&keys::TOKENS_PER_S, tokens / step_s);
        metrics.extend(sequences.draws.metrics(cx.loader.spreads()));
        Ok(StepEnd::Done {
            metrics,
            rows: Vec::new(),
            tokens: tokens as u64,
        })
    }
}

impl SftConfig {
    /// This rank's share of the step's sequences, cut off at the stage's length.
    fn sequences(&self, cx: &mut StepContext) -> Result<Sequences, TrainError> {
        let drawn = cx.loader.prompts(PromptRequest {
            count: cx.stage.common.batch.size,
            answers: self.train_on,
            longest: self.max_tokens - 1,
            attempt: 0,
        })?;
        let views = cx.learner.encode_images(&drawn.prompts)?;
        let mut own = Vec::new();
        let answers = drawn.targets.into_iter().zip(drawn.weights);
        for ((prompt, (target, weight)), view) in drawn.prompts.into_iter().zip(answers).zip(views)
        {
            let mut ids = target.ok_or_else(|| {
                TrainError::Input(format!(
                    "example {}: SFT needs a target (field `target`, `svg` or `text`)",
                    prompt.id
                ))
            })?;
            // They could never be sampled, and stand for no picture.
            let suppressed = cx.learner.model.suppress_tokens();
            if let Some(id) = ids.iter().find(|id| suppressed.contains(id)) {
                return Err(TrainError::Input(format!(
                    "example {}: the target holds token {id}, which marks a picture in a prompt",
                    prompt.id
                )));
            }
            ids.truncate(self.max_tokens - prompt.ids.len());
            own.push(Trajectory {
                prompt: prompt.ids,
                view,
                sampler_logprobs: vec![0.0; ids.len()],
                ids,
                advantage: weight,
            });
        }
        own.retain(|sequence| !sequence.ids.is_empty());
        Ok(Sequences {
            own,
            too_long: drawn.too_long,
            draws: drawn.stats,
        })
    }
}

/// Accumulates the gradients of one micro-batch; returns its share of the loss.
fn forward_backward(
    learner: &mut Learner,
    micro: &MicroBatch,
    head: &HeadOptions,
) -> Result<f64, TrainError> {
    let mut sum = 0.0;
    learner.forward_backward(micro, head, &mut |start, logprobs, _| {
        let count = logprobs.size()[0];
        let weight = micro.weight.narrow(0, start, count) * micro.advantage.narrow(0, start, count);
        let loss = (logprobs * weight).sum(logprobs.kind()).neg();
        sum += loss.double_value(&[]);
        loss
    })?;
    Ok(sum)
}
