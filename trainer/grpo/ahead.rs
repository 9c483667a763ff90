//! The batch that a step learns from: sampled by the step itself, or ahead of it by as much as `rollout.max_staleness`
//! allows. The batch of step k is begun after the update of step k - 1 - max_staleness, or of a later one, so that its
//! weights are never older.

use rollout::Sampling;
use rollout::data::CursorState;

use super::length::most_tokens;
use crate::TrainError;
use crate::algorithm::{StepContext, StepEnd};
use crate::config::{AnswerSelection, GrpoConfig};
use crate::loader::PromptRequest;
use crate::queue::{BatchDraw, QueuedBatch};
use crate::rollout_batch::{OpenRollout, RolloutArgs, ScoredGroup};
use crate::rollouts::RolloutWorkers;

/// A batch's groups on this rank, and how they were drawn; none when a signal's grace ran out on any rank.
type Sampled = Option<(Vec<ScoredGroup>, BatchDraw)>;

/// The step's batch, with those of the next steps begun.
///
/// # Errors
/// The engine's, a bad row, a lost rank.
pub(super) fn next_batch(config: &GrpoConfig, cx: &mut StepContext) -> Result<Sampled, TrainError> {
    let ahead = config.rollout.max_staleness as u64;
    replay(config, cx)?;
    // No batch is drawn that no step learns from.
    let last = (cx.step + ahead).min(cx.stage.common.steps).max(cx.step);
    let mut next = cx.queue.newest().map_or(cx.step, |newest| newest + 1);
    while next <= last {
        let batch = draw(config, cx, (next, 0, cx.stage.common.batch.size))?;
        cx.queue.push(batch);
        next += 1;
    }
    let sampled = sample(cx)?;
    if ahead > 0 {
        // The tower may learn until then: pictures are looked at when they are learnt from.
        cx.learner.images.clear();
    }
    Ok(match (sampled, ahead) {
        (false, _) => None,
        (true, 0) => cx.queue.take_first(),
        (true, _) => cx.queue.first(),
    })
}

/// Further prompts for the step under way, sampled and scored at once.
///
/// # Errors
/// The engine's, a bad row, a lost rank.
pub(super) fn further_batch(
    config: &GrpoConfig,
    cx: &mut StepContext,
    (attempt, count): (usize, usize),
) -> Result<Sampled, TrainError> {
    let batch = draw(config, cx, (cx.step, attempt, count))?;
    cx.queue.push(batch);
    Ok(sample(cx)?.then(|| cx.queue.take_first()).flatten())
}

/// The step is over, and its batch with it.
pub(super) fn learnt(cx: &mut StepContext) {
    if cx.queue.oldest() == Some(cx.step) {
        drop(cx.queue.take_first());
    }
}

/// The step ends as if it had never begun: `before` is where the loader stood. What was drawn ahead stays in the queue.
///
/// # Errors
/// A state that is not this loader's; a lost rank.
pub(super) fn dropped(
    config: &GrpoConfig,
    cx: &mut StepContext,
    before: &CursorState,
) -> Result<StepEnd, TrainError> {
    if config.rollout.max_staleness == 0 {
        cx.queue.clear();
        return cx.drop_step(before);
    }
    cx.learner.zero_grad()?;
    Ok(StepEnd::Dropped)
}

/// Begins every batch that nobody has begun, the oldest first, and waits for those that must be there: the step's own, or
/// all where the engine works only when asked. Whether they are, on every rank.
fn sample(cx: &mut StepContext) -> Result<bool, TrainError> {
    let engine = cx.engine.capabilities();
    let goes_on = engine.ahead;
    cx.stage.scorer.reload();
    let whole = engine
        .shares_weights
        .then(|| cx.learner.whole())
        .transpose()?;
    let mut fine = true;
    let queue = &mut *cx.queue;
    let mut workers = RolloutWorkers {
        engine: &mut *cx.engine,
        scorer: cx.stage.scorer,
        interrupt: cx.stage.interrupt,
    };
    for place in 0..queue.len() {
        if fine && queue.waits(place) {
            fine = workers.references_fit(queue.prompts(place))?
                && match goes_on {
                    true => queue.submit(place, &mut workers).map(|()| true)?,
                    false => queue.collect(place, &mut workers)?,
                };
        }
    }
    if fine && goes_on {
        fine = queue.collect(0, &mut workers)?;
    }
    drop(whole);
    Ok(!cx.stage.ranks.any(!fine)?)
}

/// Draws again what a checkpoint holds, and fills in what was sampled.
fn replay(config: &GrpoConfig, cx: &mut StepContext) -> Result<(), TrainError> {
    let Some(stored) = cx.queue.take_stored() else {
        return Ok(());
    };
    let now = cx.loader.state();
    for stored in stored.batches {
        cx.loader.restore(&stored.before)?;
        let size = cx.stage.common.batch.size;
        let mut batch = draw(config, cx, (stored.step, 0, size))?;
        for (draw, group) in &stored.groups {
            // Those of other ranks are not here.
            batch
                .rollout
                .know(*draw, &group.completions, &group.rewards);
        }
        cx.queue.push(batch);
    }
    cx.loader.restore(&now)
}

/// Draws `count` prompts, this rank's share of them, for `step`; for the `attempt`th time.
fn draw(
    config: &GrpoConfig,
    cx: &mut StepContext,
    (step, attempt, count): (u64, usize, usize),
) -> Result<QueuedBatch, TrainError> {
    let before = cx.loader.state();
    let drawn = cx.loader.prompts(PromptRequest {
        count,
        answers: AnswerSelection::Last,
        longest: config.rollout.max_prompt_tokens,
        attempt,
        balanced: false,
    })?;
    let most = most_tokens(&config.rollout, cx, &drawn.targets)?;
    let args = RolloutArgs {
        sampling: Sampling {
            max_new_tokens: most,
            ..config.rollout.sampling()
        },
        seed: cx.stage.seed,
        samples: config.rollout.group_size,
        step: cx.stage.steps_before + step,
        measure: false,
    };
    let first = cx.queue.number(drawn.prompts.len());
    Ok(QueuedBatch {
        draw: BatchDraw {
            step,
            before,
            end: cx.loader.state().draws,
            too_long: drawn.too_long,
            stats: drawn.stats,
            most,
        },
        rollout: OpenRollout::new(drawn.prompts, args, first),
    })
}
