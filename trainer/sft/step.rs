//! One SFT step: the negative log-probability of the targets' tokens, prompts excluded. A conversation
//! of several turns is a sequence for each answer that is learnt, with what was said before it as the
//! prompt: the chat template puts earlier turns as it does when the policy answers.

use std::time::Instant;

use rollout::Prompt;
use tch::Tensor;

use crate::TrainError;
use crate::algorithm::{Algorithm, StepContext, StepEnd};
use crate::config::{Aggregation, AlgorithmOptions, SftConfig};
use crate::draw_stats::DrawStats;
use crate::learn::{HeadOptions, Learner, LossNorm, MicroBatch, Trajectory, micro_batches};
use crate::learnt_rows::{GivenAnswer, LearntRow, known, of_prompt, on_host};
use crate::loader::PromptRequest;
use crate::metrics::{Metrics, keys};
use crate::samples::to_leader;
use crate::step_samples::StepSamples;
use crate::telemetry::{self, Phase};

/// What is learnt at each update.
const LEARNS: &[Phase] = &[Phase::ForwardBackward, Phase::Reduce, Phase::Optim];

/// This rank's share of a step's sequences.
struct Sequences {
    own: Vec<Trajectory>,
    /// Each one's prompt, and whether its answer is cut off.
    asked: Vec<(Prompt, bool)>,
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
        let (mut loss, mut seen) = (0.0, Vec::new());
        let (own, budget) = (&sequences.own, batch.micro_tokens);
        let micros = micro_batches(own, &norm, budget, cx.learner.device());
        let passes = cx.learner.passes(micros.len())?;
        for pass in 0..passes {
            telemetry::progress(pass, passes);
            if cx.learner.stops(cx.stage.interrupt.expired())? {
                break;
            }
            match micros.get(pass) {
                Some(micro) => loss += forward_backward(cx.learner, micro, &head, &mut seen)?,
                None => cx.learner.idle()?,
            }
        }
        if cx.stage.ranks.any(cx.stage.interrupt.expired())? {
            return cx.drop_step(&before);
        }
        let [loss] = cx.stage.ranks.sum([loss])?;
        drop(learning);
        let rows = match self.writes_samples(cx.step) {
            true => learnt(cx, &sequences, &seen)?,
            false => Vec::new(),
        };
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
            rows: StepSamples::Learnt(rows),
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
            balanced: true,
        })?;
        let views = cx.learner.encode_images(&drawn.prompts)?;
        let (mut own, mut asked) = (Vec::new(), Vec::new());
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
            let room = self.max_tokens - prompt.ids.len();
            let cut = ids.len() > room;
            ids.truncate(room);
            if ids.is_empty() {
                continue;
            }
            own.push(Trajectory {
                prompt: prompt.ids.clone(),
                view,
                sampler_logprobs: vec![0.0; ids.len()],
                ids,
                advantage: weight,
            });
            asked.push((prompt, cut));
        }
        Ok(Sequences {
            own,
            asked,
            too_long: drawn.too_long,
            draws: drawn.stats,
        })
    }
}

/// What was learnt from, on rank 0; `seen` are the log-probabilities of its tokens, in order.
fn learnt(
    cx: &StepContext,
    sequences: &Sequences,
    seen: &[Tensor],
) -> Result<Vec<LearntRow>, TrainError> {
    let (id, logprobs) = (cx.id(), on_host(seen)?);
    let mut rest = logprobs.as_slice();
    let lacks = || TrainError::Other("a pass has left out tokens".into());
    let mut rows = Vec::with_capacity(sequences.own.len());
    for (sequence, (prompt, cut)) in sequences.own.iter().zip(&sequences.asked) {
        let own = rest.split_off(..sequence.ids.len()).ok_or_else(lacks)?;
        let answer = GivenAnswer {
            prompt,
            index: 0,
            ids: &sequence.ids,
            text: cx.loader.answer_text(&sequence.ids),
            cut: *cut,
        };
        let sum: f64 = own.iter().copied().map(f64::from).sum();
        let row = LearntRow {
            loss: known(-sum / own.len() as f64),
            weight: Some(sequence.advantage),
            ..answer.row(&id, own)
        };
        rows.push(of_prompt(prompt, vec![row]));
    }
    to_leader(&cx.stage.ranks, rows)
}

/// Accumulates the gradients of one micro-batch and adds the log-probabilities of its tokens to `seen`; returns its
/// share of the loss.
fn forward_backward(
    learner: &mut Learner,
    micro: &MicroBatch,
    head: &HeadOptions,
    seen: &mut Vec<Tensor>,
) -> Result<f64, TrainError> {
    let mut sum = 0.0;
    learner.forward_backward(micro, head, &mut |start, logprobs, _| {
        seen.push(logprobs.detach());
        let count = logprobs.size()[0];
        let weight = micro.weight.narrow(0, start, count) * micro.advantage.narrow(0, start, count);
        let loss = (logprobs * weight).sum(logprobs.kind()).neg();
        sum += loss.double_value(&[]);
        loss
    })?;
    Ok(sum)
}
