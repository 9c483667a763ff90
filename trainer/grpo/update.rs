//! From trajectories to optimizer updates: normalisers, denominators, gradients.

use models::vision::Look;
use tch::{Kind, Tensor};

use super::batch::{MicroBatch, Normaliser, Trajectory, micro_batches};
use super::loss::{LossOptions, SUMS, TokenTerms, grpo_loss};
use super::step::{GrpoStats, Trainer};
use crate::config::{Denominator, KlPlace};
use crate::head::HeadOptions;
use crate::learner::{Learner, Update};
use crate::{TrainError, replica};

/// What one update learns from.
struct Part {
    micros: Vec<(MicroBatch, Option<Tensor>)>,
    /// Completion tokens on all ranks.
    tokens: f64,
}

impl Trainer<'_> {
    /// Passes over the batch, one list of trajectories an update; each update's loss is normalised by
    /// its own tokens on all ranks. False when an interrupt's grace ran out before the first
    /// update: nothing has changed then. Once the policy has moved, the step is finished.
    pub(crate) fn learn(
        &self,
        learner: &mut Learner,
        trajectories: &[Vec<Trajectory>],
        lr: f64,
        stats: &mut GrpoStats,
    ) -> Result<bool, TrainError> {
        let parts = self.prepare(learner, trajectories)?;
        let mut moved = false;
        for part in (0..self.config.loss.epochs)
            .flat_map(|_| &parts)
            .filter(|part| part.tokens > 0.0)
        {
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
            sums.push(
                part.micros
                    .iter()
                    .map(|(micro, _)| micro.tokens())
                    .sum::<i64>() as f64,
            );
            // The last number is how many ranks ran out of time.
            sums.push(f64::from(!moved && self.interrupt.expired()));
            let mut sums = replica::sum_numbers(&learner.group, learner.device(), &sums)?;
            if sums.pop().is_some_and(|expired| expired > 0.0) {
                learner.forget();
                return Ok(false);
            }
            self.apply(learner, &sums, lr, stats)?;
            moved = true;
            stats.sums.resize(sums.len(), 0.0);
            stats
                .sums
                .iter_mut()
                .zip(sums)
                .for_each(|(sum, value)| *sum += value);
        }
        Ok(true)
    }

    /// Packs each update's trajectories, with the ratio's denominators from before the first.
    fn prepare(
        &self,
        learner: &Learner,
        trajectories: &[Vec<Trajectory>],
    ) -> Result<Vec<Part>, TrainError> {
        let mut parts = Vec::new();
        for chunk in trajectories {
            let tokens: usize = chunk.iter().map(|trajectory| trajectory.ids.len()).sum();
            let counts = replica::sum_numbers(
                &learner.group,
                learner.device(),
                &[tokens as f64, chunk.len() as f64],
            )?;
            let normaliser = self.normaliser(counts[0], counts[1]);
            let micros = micro_batches(
                chunk,
                &normaliser,
                self.config.batch.micro_tokens,
                learner.device(),
            );
            let micros = micros.into_iter().map(|micro| {
                let old = self.denominator(learner, &micro)?;
                Ok((micro, old))
            });
            parts.push(Part {
                micros: micros.collect::<Result<_, TrainError>>()?,
                tokens: counts[0],
            });
        }
        Ok(parts)
    }

    /// Accumulates the gradients of one micro-batch; returns [`SUMS`].
    fn backward(
        &self,
        learner: &mut Learner,
        micro: &MicroBatch,
        old: Option<&Tensor>,
    ) -> Result<Vec<f64>, TrainError> {
        let in_loss = self.config.kl.place == KlPlace::Loss;
        let reference = self
            .reference
            .as_ref()
            .map(|policy| Learner::log_probs(policy, micro, (&self.head(), learner.look())))
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
                Learner::log_probs(&learner.model, micro, (&self.head(), Look::Kept)).map(Some)
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
