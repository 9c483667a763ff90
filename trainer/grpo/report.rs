//! A GRPO step's metrics.

use std::time::Instant;

use models::vision::Vision;

use super::advantage::is_zero_spread;
use super::gather::GatheredGroup;
use super::loss::SUMS;
use super::update::UpdateStats;
use crate::TrainError;
use crate::algorithm::StepContext;
use crate::config::TaskConfig;
use crate::draw_stats::DrawStats;
use crate::learn::Learner;
use crate::metrics::{Metrics, keys};
use crate::queue::BatchDraw;
use crate::samples::{SampleRow, reward_metrics};
use crate::telemetry::{self, Phase};

/// What a step counts on its way.
pub(super) struct GrpoLog {
    started: Instant,
    too_long: u64,
    /// The most tokens of a completion.
    most: usize,
    draws: DrawStats,
    /// Draws of the stage once the step's are made.
    end: u64,
    pictures_before: u64,
    prefills_before: u64,
}

impl GrpoLog {
    /// Begins to count, and the phases' clocks.
    pub(super) fn start(cx: &StepContext) -> Self {
        telemetry::start_step();
        Self {
            started: Instant::now(),
            too_long: 0,
            most: 0,
            draws: DrawStats::default(),
            end: 0,
            pictures_before: pictures(cx.learner),
            prefills_before: cx.engine.stats().prefills,
        }
    }

    /// The step has a batch that was drawn so.
    pub(super) fn drawn(&mut self, draw: BatchDraw) {
        self.most = self.most.max(draw.most);
        self.too_long += draw.too_long;
        self.draws.merge(draw.stats);
        self.end = self.end.max(draw.end);
    }

    /// Draws of the stage once the step's are made.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

/// Pictures that went through the learner's tower so far.
fn pictures(learner: &Learner) -> u64 {
    learner.model.vision().map_or(0, Vision::images_encoded)
}

/// What a step's completions came to.
pub(super) struct Seen<'a> {
    /// All ranks' groups.
    pub(super) all: &'a [GatheredGroup],
    /// All ranks' rows, on rank 0.
    pub(super) rows: &'a [SampleRow],
}

/// The step's metrics; those of rows on rank 0, which has them all.
///
/// # Errors
/// A lost rank.
pub(super) fn metrics(
    cx: &StepContext,
    log: &GrpoLog,
    update: &UpdateStats,
    seen: &Seen,
) -> Result<Metrics, TrainError> {
    let Seen { all, rows } = *seen;
    let tasks = cx.stage.tasks;
    let draws = |task: &str| tasks.get(task).is_some_and(TaskConfig::draws);
    let mut metrics = reward_metrics(rows, &draws);
    let flat = all.iter().filter(|group| is_zero_spread(&group.shaped));
    let share = flat.count() as f64 / all.len().max(1) as f64;
    metrics.set(&keys::ZERO_SPREAD, share);
    for (metric, mean) in SUMS.iter().zip(update.means()) {
        metrics.set(metric, mean);
    }
    let sampled: usize = rows.iter().map(|row| row.token_ids.len()).sum();
    let step_s = log.started.elapsed().as_secs_f64();
    metrics.set(&keys::LR, cx.learning_rate());
    metrics.set(&keys::GRAD_NORM, update.grad_norm);
    metrics.set(&keys::SKIPPED, update.skipped);
    metrics.set(&keys::TOKENS_LIMIT, log.most as f64);
    metrics.set(&keys::LONG_PROMPTS, log.too_long as f64);
    telemetry::add_times(Phase::ALL, &mut metrics);
    metrics.set(&keys::TIME_STEP, step_s);
    metrics.set(&keys::TOKENS_PER_S, sampled as f64 / step_s);
    metrics.set(&keys::ROLLOUTS_PER_S, rows.len() as f64 / step_s);
    if let (Some(valid), Some(seconds)) =
        (metrics.get(&keys::VALID), metrics.get(&keys::TIME_GENERATE))
        && valid > 0.0
    {
        let drawn = rows
            .iter()
            .filter(|row| row.valid && draws(&row.task))
            .count();
        metrics.set(&keys::S_PER_SVG, seconds / drawn.max(1) as f64);
    }
    // The engine has not had the step's weights yet.
    let version = cx.engine.stats().policy_version as f64;
    let behind = rows.iter().map(|row| version - row.policy_version as f64);
    metrics.set(
        &keys::STALENESS,
        behind.sum::<f64>() / rows.len().max(1) as f64,
    );
    metrics.set(&keys::QUEUE, cx.queue.len() as f64);
    let looked = pictures(cx.learner) - log.pictures_before;
    metrics.set(&keys::PICTURES, looked as f64);
    let prefills = cx.engine.stats().prefills - log.prefills_before;
    metrics.set(&keys::PREFILLS, prefills as f64);
    if let Some(own) = cx.stage.scorer.judge_count() {
        // Every rank scores with the same tasks, so all have judges or none has.
        let own = [own.asked as f64, own.failed as f64, own.cost];
        let [asked, failed, cost] = cx.stage.ranks.sum(own)?;
        metrics.set(&keys::JUDGE_ASKED, asked);
        metrics.set(&keys::JUDGE_FAILED, failed);
        metrics.set(&keys::JUDGE_COST, cost);
    }
    metrics.extend(log.draws.metrics(cx.loader.spreads()));
    Ok(metrics)
}
