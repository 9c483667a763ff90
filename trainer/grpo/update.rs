//! From trajectories to optimizer updates: normalisers, denominators, gradients.

use models::VisionFeatures;
use tch::{Kind, Tensor};

use super::batch::{MicroBatch, Normaliser, Trajectory, micro_batches};
use super::loss::{LossOptions, SUMS, TokenTerms, grpo_loss};
use super::step::{GrpoStats, Trainer};
use crate::config::{Denominator, KlPlace};
use crate::head::HeadOptions;
use crate::learner::{Learner, Update};
use crate::{TrainError, flops, replica};

/// What a step's rollouts hold to learn from, on this rank.
pub(crate) struct Lessons {
    /// The trajectories of each update.
    updates: Vec<Vec<Trajectory>>,
    /// Those of zero-spread groups and masked ones, all with advantage 0.
    left_out: Vec<Trajectory>,
}

impl Lessons {
    pub(super) fn new(updates: usize) -> Self {
        Self {
            updates: vec![Vec::new(); updates],
            left_out: Vec::new(),
        }
    }

    /// Adds a trajectory to an update, or to none.
    pub(super) fn add(&mut self, update: Option<usize>, trajectory: Trajectory) {
        match update {
            Some(update) => self.updates[update].push(trajectory),
            None => self.left_out.push(Trajectory {
                advantage: 0.0,
                ..trajectory
            }),
        }
    }
}

/// What one pass goes over.
struct Part {
    micros: Vec<(MicroBatch, Option<Tensor>)>,
    /// Completion tokens on all ranks.
    tokens: f64,
    /// Whether the pass ends in an update.
    learns: bool,
}

impl Trainer<'_> {
    /// Passes over the lessons; each update's loss is normalised by its own tokens on all ranks. Where
    /// there is nothing to learn from, what was left out is measured instead. False when an
    /// interrupt's grace ran out before the first update: nothing has changed then. Once the policy
    /// has moved, the step is finished.
    pub(crate) fn learn(
        &self,
        learner: &mut Learner,
        lessons: &Lessons,
        lr: f64,
        stats: &mut GrpoStats,
    ) -> Result<bool, TrainError> {
        let mut parts = Vec::new();
        for chunk in &lessons.updates {
            parts.extend(self.prepare(learner, chunk, true)?);
        }
        let mut passes = self.config.loss.epochs;
        if parts.is_empty() {
            parts.extend(self.prepare(learner, &lessons.left_out, false)?);
            passes = 1;
        }
        let mut moved = false;
        for part in (0..passes).flat_map(|_| &parts) {
            let mut sums = vec![0.0; SUMS.len()];
            for (micro, old) in &part.micros {
                if !moved && self.interrupt.expired() {
                    break;
                }
                let own = self.backward(learner, micro, old.as_ref())?;
                sums.iter_mut()
                    .zip(own)
                    .for_each(|(sum, value)| *sum += value);
            }
            // The last number is how many ranks ran out of time.
            sums.push(f64::from(!moved && self.interrupt.expired()));
            let mut sums = replica::sum_numbers(&learner.group, learner.device(), &sums)?;
            if sums.pop().is_some_and(|expired| expired > 0.0) {
                learner.forget();
                return Ok(false);
            }
            match part.learns {
                true => self.apply(learner, &sums, lr, stats)?,
                false => learner.forget(),
            }
            moved |= part.learns;
            stats.learnt += if part.learns { part.tokens } else { 0.0 };
            sums.push(part.tokens);
            stats.sums.resize(sums.len(), 0.0);
            stats
                .sums
                .iter_mut()
                .zip(sums)
                .for_each(|(sum, value)| *sum += value);
        }
        Ok(true)
    }

    /// Packs `chunk`, with the ratio's denominators from before the first update; `None` when no rank
    /// has a token in it.
    fn prepare(
        &self,
        learner: &Learner,
        chunk: &[Trajectory],
        learns: bool,
    ) -> Result<Option<Part>, TrainError> {
        let tokens: usize = chunk.iter().map(|trajectory| trajectory.ids.len()).sum();
        let counts = replica::sum_numbers(
            &learner.group,
            learner.device(),
            &[tokens as f64, chunk.len() as f64],
        )?;
        if counts[0] == 0.0 {
            return Ok(None);
        }
        let micros = micro_batches(
            chunk,
            &self.normaliser(counts[0], counts[1]),
            self.config.batch.micro_tokens,
            learner.device(),
        );
        let micros = micros.into_iter().map(|micro| {
            let old = match learns {
                true => self.denominator(learner, &micro)?,
                false => None,
            };
            Ok((micro, old))
        });
        Ok(Some(Part {
            micros: micros.collect::<Result<_, TrainError>>()?,
            tokens: counts[0],
            learns,
        }))
    }

    /// Accumulates the gradients of one micro-batch; returns [`SUMS`].
    fn backward(
        &self,
        learner: &mut Learner,
        micro: &MicroBatch,
        old: Option<&Tensor>,
    ) -> Result<Vec<f64>, TrainError> {
        if self.reference.is_some() {
            learner.work += flops::forward(&learner.model, micro, learner.vision_features());
        }
        let in_loss = self.config.kl.place == KlPlace::Loss;
        let reference = self
            .reference
            .as_ref()
            .map(|policy| {
                Learner::log_probs(policy, micro, (&self.head(), learner.vision_features()))
            })
            .transpose()?;
        // In the reward the term is not part of the loss; the statistic is reported all the same.
        let coefficient = if in_loss {
            self.config.kl.coefficient
        } else {
            0.0
        };
        let kl = reference
            .as_ref()
            .map(|_| (coefficient, self.config.kl.estimator));
        let options = LossOptions::new(&self.config.loss, kl);
        let mut sums: Option<Tensor> = None;
        learner.accumulate(micro, &self.head(), &mut |start, logprobs, entropy| {
            let cut = |tensor: &Tensor| tensor.narrow(0, start, logprobs.size()[0]);
            let (old, reference) = (old.map(cut), reference.as_ref().map(cut));
            let output = grpo_loss(
                &TokenTerms {
                    logprobs,
                    entropy,
                    old: old.as_ref(),
                    sampler: &cut(&micro.sampler),
                    reference: reference.as_ref(),
                    advantage: &cut(&micro.advantage),
                    weight: &cut(&micro.weight),
                },
                &options,
            );
            sums = Some(match sums.take() {
                Some(sums) => sums + output.sums,
                None => output.sums,
            });
            output.loss
        })?;
        let sums = sums.unwrap_or_else(|| {
            Tensor::zeros([SUMS.len() as i64], (Kind::Double, learner.device()))
        });
        Vec::<f64>::try_from(sums).map_err(|error| TrainError::Learner(error.to_string()))
    }

    fn apply(
        &self,
        learner: &mut Learner,
        sums: &[f64],
        lr: f64,
        stats: &mut GrpoStats,
    ) -> Result<(), TrainError> {
        if !sums[0].is_finite() {
            learner.forget();
            stats.skipped += 1.0;
            return Ok(());
        }
        let update = learner.apply(lr, self.config.optimizer.clip_norm)?;
        stats.skipped += f64::from(!update.applied);
        stats.update = Update {
            reduce_s: stats.update.reduce_s + update.reduce_s,
            optim_s: stats.update.optim_s + update.optim_s,
            ..update
        };
        Ok(())
    }

    /// The ratio's denominator, where it is not the policy's own log-probability.
    fn denominator(
        &self,
        learner: &Learner,
        micro: &MicroBatch,
    ) -> Result<Option<Tensor>, TrainError> {
        if self.config.loss.updates * self.config.loss.epochs == 1 {
            return Ok(None);
        }
        match self.config.loss.denominator {
            Denominator::Sampler => Ok(Some(micro.sampler.shallow_clone())),
            Denominator::Recomputed => {
                // Before the first update: the rollout's tower is the learner's.
                Learner::log_probs(
                    &learner.model,
                    micro,
                    (&self.head(), VisionFeatures::Cached),
                )
                .map(Some)
            }
        }
    }

    pub(super) fn normaliser(&self, tokens: f64, sequences: f64) -> Normaliser {
        let constant = match self.config.loss.constant_length {
            0 => self.config.rollout.max_new_tokens,
            constant => constant,
        };
        Normaliser {
            aggregation: self.config.loss.aggregation,
            tokens,
            sequences,
            constant: constant as f64,
        }
    }

    pub(super) fn head(&self) -> HeadOptions {
        HeadOptions {
            temperature: self.config.rollout.temperature,
            rows: self.config.batch.logit_rows,
        }
    }
}
