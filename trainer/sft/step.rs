//! One SFT step: the negative log-probability of the targets' tokens, prompts excluded. A conversation
//! of several turns is a sequence for each answer that is learnt, with what was said before it as the
//! prompt: the chat template puts earlier turns as it does when the policy answers.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use models::image::PromptImages;
use models::{EncodedImages, VisionFeatures};
use rollout::Prompt;
use rollout::data::Cursor;

use crate::config::{Aggregation, SftStage};
use crate::grpo::batch::{MicroBatch, Normaliser, Trajectory, micro_batches};
use crate::grpo::looked_at;
use crate::head::HeadOptions;
use crate::interrupt::Interrupt;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::optim::learning_rate;
use crate::prompts::Prompts;
use crate::tally::Tally;
use crate::{StepEnd, TrainError, replica};

/// What an SFT stage's steps share.
pub struct SftTrainer<'a> {
    /// The stage's section.
    pub config: &'a SftStage,
    /// Makes prompts.
    pub prompts: &'a Prompts<'a>,
    /// Asks the step to be dropped.
    pub interrupt: &'a Interrupt,
}

/// What was drawn besides sequences.
struct Counts {
    too_long: u64,
    tally: Tally,
}

impl SftTrainer<'_> {
    /// Runs step `step` (from 1).
    ///
    /// # Errors
    /// A row without a target, the learner's, a lost rank.
    pub fn step(
        &self,
        learner: &mut Learner,
        cursor: &mut Cursor,
        step: u64,
    ) -> Result<StepEnd, TrainError> {
        let started = Instant::now();
        let before = cursor.state();
        let (own, drawn) = self.sequences(learner, cursor)?;
        let tokens: usize = own.iter().map(|sequence| sequence.ids.len()).sum();
        let counts = replica::sum_numbers(
            &learner.group,
            learner.device(),
            &[tokens as f64, own.len() as f64],
        )?;
        let normaliser = Normaliser {
            aggregation: Aggregation::TokenMean,
            tokens: counts[0],
            sequences: counts[1],
            constant: 1.0,
        };
        let head = HeadOptions {
            temperature: 1.0,
            rows: self.config.batch.logit_rows,
        };
        let mut loss = 0.0;
        for micro in micro_batches(
            &own,
            &normaliser,
            self.config.batch.micro_tokens,
            learner.device(),
        ) {
            if self.interrupt.expired() {
                break;
            }
            loss += backward(learner, &micro, &head)?;
        }
        let late = f64::from(self.interrupt.expired());
        let sums = replica::sum_numbers(&learner.group, learner.device(), &[loss, late])?;
        if sums[1] > 0.0 {
            learner.forget();
            cursor.restore(&before)?;
            return Ok(StepEnd::Dropped);
        }
        let loss = sums[0];
        let forward_backward_s = started.elapsed().as_secs_f64();
        let lr = learning_rate(&self.config.optimizer, step, self.config.steps);
        let mut update = crate::learner::Update::default();
        if loss.is_finite() {
            update = learner.apply(lr, self.config.optimizer.clip_norm)?;
        } else {
            learner.forget();
        }
        let step_s = started.elapsed().as_secs_f64();
        let metrics = [
            ("sft/loss", loss),
            ("completion/tokens/mean", counts[0] / counts[1].max(1.0)),
            ("optim/lr", lr),
            ("optim/grad_norm", update.grad_norm),
            ("optim/skipped", f64::from(!update.applied)),
            ("data/long_prompts", drawn.too_long as f64),
            ("time/forward_backward_s", forward_backward_s),
            ("time/reduce_s", update.reduce_s),
            ("time/optim_s", update.optim_s),
            ("time/step_s", step_s),
            ("perf/tokens_per_s", counts[0] / step_s),
        ];
        let mut metrics: Metrics = metrics
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        metrics.extend(drawn.tally.metrics(cursor));
        Ok(StepEnd::Done {
            metrics,
            rows: Vec::new(),
            tokens: counts[0] as u64,
        })
    }

    /// This rank's share of the step's sequences, cut off at the stage's length.
    fn sequences(
        &self,
        learner: &Learner,
        cursor: &mut Cursor,
    ) -> Result<(Vec<Trajectory>, Counts), TrainError> {
        let tokenizer = self.prompts.tokenizer();
        let eos = tokenizer.eos().first().copied();
        let asked = (self.config.batch.size, self.config.turns);
        let share = (learner.group.rank(), learner.group.size());
        let drawn = self
            .prompts
            .draw(cursor, asked, self.config.max_tokens - 1, share)?;
        let views = self.views(learner, &drawn.prompts)?;
        let mut own = Vec::new();
        for ((prompt, target), view) in drawn.prompts.into_iter().zip(drawn.targets).zip(views) {
            let target = target.ok_or_else(|| {
                TrainError::Input(format!(
                    "example {}: SFT needs a target (field `target`, `svg` or `text`)",
                    prompt.id
                ))
            })?;
            let mut ids = tokenizer.encode(&target);
            // They could never be sampled, and stand for no picture.
            if let Some(id) = ids
                .iter()
                .find(|id| learner.model.suppress_tokens().contains(id))
            {
                return Err(TrainError::Input(format!(
                    "example {}: the target holds token {id}, which marks a picture in a prompt",
                    prompt.id
                )));
            }
            ids.extend(eos);
            ids.truncate(self.config.max_tokens - prompt.ids.len());
            own.push(Trajectory {
                prompt: prompt.ids,
                view,
                sampler_logprobs: vec![0.0; ids.len()],
                ids,
                advantage: 1.0,
            });
        }
        own.retain(|sequence| !sequence.ids.is_empty());
        let counts = Counts {
            too_long: drawn.too_long,
            tally: drawn.tally,
        };
        Ok((own, counts))
    }

    /// The prompts' pictures: looked at here where the tower stays as it is, once for all
    /// micro-batches, else by the learner.
    fn views(
        &self,
        learner: &Learner,
        prompts: &[Prompt],
    ) -> Result<Vec<Option<Rc<EncodedImages>>>, TrainError> {
        if learner.vision_features() == VisionFeatures::Cached {
            return looked_at(&learner.model, prompts);
        }
        let unseen = |shown: &Arc<PromptImages>| {
            Rc::new(EncodedImages {
                images: shown.clone(),
                hidden: None,
            })
        };
        Ok(prompts
            .iter()
            .map(|prompt| prompt.shown.as_ref().map(unseen))
            .collect())
    }
}

/// Accumulates the gradients of one micro-batch; returns its share of the loss.
fn backward(
    learner: &mut Learner,
    micro: &MicroBatch,
    head: &HeadOptions,
) -> Result<f64, TrainError> {
    let mut sum = 0.0;
    learner.accumulate(micro, head, &mut |start, logprobs, _| {
        let weight = micro.weight.narrow(0, start, logprobs.size()[0]);
        let loss = (logprobs * weight).sum(logprobs.kind()).neg();
        sum += loss.double_value(&[]);
        loss
    })?;
    Ok(sum)
}
