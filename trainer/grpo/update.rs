//! From minibatches to optimizer updates: loss norms, old log-probabilities, gradients.

use models::{AdapterMode, VisionFeatures};
use tch::{Kind, Tensor};

use super::correction::completion_weights;
use super::loss::{LossOptions, SUMS, TokenTerms, grpo_loss};
use super::minibatch::Minibatches;
use crate::TrainError;
use crate::algorithm::{StageContext, StepContext};
use crate::config::{GrpoConfig, KlPlace, OldLogprobs};
use crate::learn::{Learner, MicroBatch, Trajectory, flops, micro_batches};
use crate::metrics::keys;
use crate::telemetry::{self, Phase};

/// What a step's updates did.
#[derive(Debug, Default)]
pub(super) struct UpdateStats {
    /// [`SUMS`] over the tokens of every pass on all ranks.
    pub(super) sums: [f64; SUMS.len()],
    /// Passes over minibatches that have tokens.
    pub(super) passes: f64,
    /// Completion tokens of every pass on all ranks.
    pub(super) tokens: f64,
    /// Those of passes that ended in an update.
    pub(super) learnt: f64,
    /// Updates refused because loss or gradient was not finite.
    pub(super) skipped: f64,
    /// The last update's.
    pub(super) grad_norm: f64,
}

impl UpdateStats {
    /// What [`SUMS`] are called: the loss a mean over passes, each of which is normalised by its own
    /// tokens, the others means over tokens.
    pub(super) fn means(&self) -> [f64; SUMS.len()] {
        let mut means = self.sums.map(|sum| sum / self.tokens.max(1.0));
        means[0] = self.sums[0] / self.passes.max(1.0);
        // A zero is written without a sign.
        means.map(|mean| mean + 0.0)
    }
}

/// One pass: what an update learns from, or what is measured only.
struct Minibatch {
    /// Micro-batches, each with what is known of its tokens from before the first update.
    micros: Vec<(MicroBatch, BeforeUpdate)>,
    /// Completion tokens on all ranks.
    tokens: f64,
    /// Whether the pass ends in an update.
    learns: bool,
}

/// What is known of a micro-batch's tokens from before the first update, `[n]` each.
#[derive(Default)]
struct BeforeUpdate {
    /// The ratio's denominators, where they are not the policy's own.
    old: Option<Tensor>,
    /// The weights of a correction of whole completions.
    correction: Option<Tensor>,
}

/// Passes over the minibatches; each update's loss is normalised by its own tokens on all ranks. Where
/// there is nothing to learn from, what was filtered is measured instead. `None` when an interrupt's
/// grace ran out before the first update: nothing has changed then. Once the policy has moved, the
/// step is finished.
///
/// # Errors
/// The learner's, a lost rank.
pub(super) fn optimize(
    config: &GrpoConfig,
    cx: &mut StepContext,
    batches: &Minibatches,
) -> Result<Option<UpdateStats>, TrainError> {
    let mut passes = Vec::new();
    let mut epochs = config.loss.epochs;
    {
        let _phase = Phase::ForwardBackward.enter();
        for trajectories in &batches.updates {
            passes.extend(prepare(config, cx, trajectories, true)?);
        }
        if passes.is_empty() {
            passes.extend(prepare(config, cx, &batches.filtered, false)?);
            epochs = 1;
        }
    }
    let mut stats = UpdateStats::default();
    let mut moved = false;
    for minibatch in (0..epochs).flat_map(|_| &passes) {
        let Some(sums) = accumulate(config, cx, minibatch, !moved)? else {
            return Ok(None);
        };
        check_mismatch(config, cx, &sums, minibatch)?;
        match minibatch.learns {
            true => update(cx, &sums, &mut stats)?,
            false => cx.learner.zero_grad()?,
        }
        moved |= minibatch.learns;
        stats.learnt += if minibatch.learns {
            minibatch.tokens
        } else {
            0.0
        };
        stats.passes += 1.0;
        stats.tokens += minibatch.tokens;
        for (total, sum) in stats.sums.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    Ok(Some(stats))
}

/// Packs `trajectories`, with the ratio's denominators from before the first update; `None` when no
/// rank has a token in them.
fn prepare(
    config: &GrpoConfig,
    cx: &StepContext,
    trajectories: &[Trajectory],
    learns: bool,
) -> Result<Option<Minibatch>, TrainError> {
    let tokens: usize = trajectories.iter().map(|one| one.ids.len()).sum();
    let own = [tokens as f64, trajectories.len() as f64];
    let [tokens, sequences] = cx.stage.ranks.sum(own)?;
    if tokens == 0.0 {
        return Ok(None);
    }
    let micros = micro_batches(
        trajectories,
        &config.loss_norm(tokens, sequences),
        cx.stage.common.batch.micro_tokens,
        cx.learner.device(),
    );
    let passes = cx.learner.passes(micros.len())?;
    let mut paired = Vec::new();
    let mut micros = micros.into_iter();
    for _ in 0..passes {
        match micros.next() {
            Some(micro) => {
                let before = match learns {
                    true => before_update(config, cx, &micro)?,
                    false => BeforeUpdate::default(),
                };
                paired.push((micro, before));
            }
            None if learns && recomputes(config) => {
                Learner::idle_log_probs(&cx.learner.model)?;
            }
            None => {}
        }
    }
    Ok(Some(Minibatch {
        micros: paired,
        tokens,
        learns,
    }))
}

/// Whether the learner's own log-probabilities are needed from before the first update.
fn recomputes(config: &GrpoConfig) -> bool {
    let several = config.loss.updates * config.loss.epochs > 1;
    match config.correction() {
        Some(it) => it.of_sequences() || (several && it.anchor == OldLogprobs::Recomputed),
        None => several && config.loss.old_logprobs == OldLogprobs::Recomputed,
    }
}

/// What has to be known of a micro-batch from before the first update.
fn before_update(
    config: &GrpoConfig,
    cx: &StepContext,
    micro: &MicroBatch,
) -> Result<BeforeUpdate, TrainError> {
    let mut own = None;
    if recomputes(config) {
        let head = config.head(cx.stage.common);
        let features = match config.rollout.max_staleness {
            // The rollout's tower is the learner's.
            0 => VisionFeatures::Cached,
            _ => cx.learner.vision_features(),
        };
        let model = &cx.learner.model;
        let logprobs = Learner::log_probs(model, micro, &head, features, AdapterMode::On)?;
        own = Some(logprobs);
    }
    let several = config.loss.updates * config.loss.epochs > 1;
    let sampler = || Some(micro.sampler.shallow_clone());
    let Some(correction) = config.correction() else {
        let sampled = several && config.loss.old_logprobs == OldLogprobs::Sampler;
        return Ok(BeforeUpdate {
            old: if sampled { sampler() } else { own },
            correction: None,
        });
    };
    let weights = own.as_ref().filter(|_| correction.of_sequences());
    let weights = weights.map(|own| {
        let raw = own - &micro.sampler;
        completion_weights(&raw, &micro.advantage, &micro.lengths, &correction)
    });
    Ok(BeforeUpdate {
        old: match correction.anchor {
            OldLogprobs::Sampler => sampler(),
            OldLogprobs::Recomputed => own,
        },
        correction: weights,
    })
}

/// Ends the run when sampler and learner are too far apart for the update to be one of the policy.
///
/// # Errors
/// What to do, then.
fn check_mismatch(
    config: &GrpoConfig,
    cx: &StepContext,
    sums: &[f64; SUMS.len()],
    minibatch: &Minibatch,
) -> Result<(), TrainError> {
    let most = config.correction().and_then(|it| it.max_kl_mismatch);
    let place = SUMS.iter().position(|metric| **metric == keys::KL_MISMATCH);
    let (Some(most), Some(place), true) = (most, place, minibatch.learns) else {
        return Ok(());
    };
    let mismatch = sums[place] / minibatch.tokens;
    if mismatch <= most {
        return Ok(());
    }
    Err(TrainError::Other(format!(
        "step {} of `{}`: policy/kl_mismatch is {mismatch:.2e}, more than correction.max_kl_mismatch {most}: the completions are no longer the policy's, and the update is not made. Lower rollout.max_staleness or the learning rate, see whether policy/kl_mismatch is small at max_staleness 0 (else the servers compute otherwise than the learner), or raise the bound; the same command goes on from the last checkpoint",
        cx.step, cx.stage.common.name
    )))
}

/// Accumulates the gradients of one minibatch; [`SUMS`] over all ranks, or `None` when the pass may
/// still be dropped and some rank ran out of time.
fn accumulate(
    config: &GrpoConfig,
    cx: &mut StepContext,
    minibatch: &Minibatch,
    droppable: bool,
) -> Result<Option<[f64; SUMS.len()]>, TrainError> {
    let _phase = Phase::ForwardBackward.enter();
    let expired = || droppable && cx.stage.interrupt.expired();
    let mut sums = [0.0; SUMS.len()];
    let passes = cx.learner.passes(minibatch.micros.len())?;
    for pass in 0..passes {
        telemetry::progress(pass, passes);
        if cx.learner.stops(expired())? {
            break;
        }
        cx.look_ahead()?;
        let Some((micro, before)) = minibatch.micros.get(pass) else {
            cx.stage.reference.idle(cx.learner)?;
            cx.learner.idle()?;
            continue;
        };
        let own = forward_backward(config, (cx.stage, cx.learner), micro, before)?;
        for (sum, value) in sums.iter_mut().zip(own) {
            *sum += value;
        }
    }
    let dropped = cx.stage.ranks.any(expired())?;
    let sums = cx.stage.ranks.sum(sums)?;
    Ok((!dropped).then_some(sums))
}

/// Accumulates the gradients of one micro-batch; returns [`SUMS`].
fn forward_backward(
    config: &GrpoConfig,
    (stage, learner): (&StageContext, &mut Learner),
    micro: &MicroBatch,
    before: &BeforeUpdate,
) -> Result<Vec<f64>, TrainError> {
    let head = config.head(stage.common);
    let reference = stage.reference.log_probs(learner, micro, &head)?;
    if reference.is_some() {
        learner.flops += flops::forward(&learner.model, micro, learner.vision_features());
    }
    // In the reward the term is not part of the loss; the statistic is reported all the same.
    let coefficient = match config.kl.place {
        KlPlace::Loss => config.kl.coefficient,
        KlPlace::Reward => 0.0,
    };
    let kl = reference
        .as_ref()
        .map(|_| (coefficient, config.kl.estimator));
    let options = LossOptions::new(config, kl);
    let mut sums: Option<Tensor> = None;
    learner.forward_backward(micro, &head, &mut |start, logprobs, entropy| {
        let rows = |tensor: &Tensor| tensor.narrow(0, start, logprobs.size()[0]);
        let (old, reference) = (before.old.as_ref().map(rows), reference.as_ref().map(rows));
        let correction = before.correction.as_ref().map(rows);
        let output = grpo_loss(
            &TokenTerms {
                logprobs,
                entropy,
                old: old.as_ref(),
                sampler: &rows(&micro.sampler),
                reference: reference.as_ref(),
                advantage: &rows(&micro.advantage),
                weight: &rows(&micro.weight),
                correction: correction.as_ref(),
            },
            &options,
        );
        sums = Some(match sums.take() {
            Some(sums) => sums + output.sums,
            None => output.sums,
        });
        output.loss
    })?;
    let zeros = || Tensor::zeros([SUMS.len() as i64], (Kind::Double, learner.device()));
    let sums = sums.unwrap_or_else(zeros);
    Vec::<f64>::try_from(sums).map_err(|error| TrainError::Learner(error.to_string()))
}

/// One optimizer step; refused where the loss is not finite.
fn update(cx: &mut StepContext, sums: &[f64], stats: &mut UpdateStats) -> Result<(), TrainError> {
    if !sums[0].is_finite() {
        cx.learner.zero_grad()?;
        stats.skipped += 1.0;
        return Ok(());
    }
    let clip_norm = cx.stage.common.optimizer.clip_norm;
    let update = cx.learner.optimizer_step(cx.learning_rate(), clip_norm)?;
    stats.skipped += f64::from(!update.applied);
    stats.grad_norm = update.grad_norm;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_a_mean_over_the_passes_that_were_made() {
        // Four updates were asked for and two groups kept: two passes of 10 and 30 tokens.
        let stats = UpdateStats {
            sums: [3.0, 20.0, 0.0, 0.0, 40.0, 0.0, -0.0, 40.0, 0.0],
            passes: 2.0,
            tokens: 40.0,
            ..UpdateStats::default()
        };
        assert_eq!(stats.means(), [1.5, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert!(stats.means()[6].is_sign_positive());
        assert_eq!(UpdateStats::default().means(), [0.0; SUMS.len()]);
    }
}
