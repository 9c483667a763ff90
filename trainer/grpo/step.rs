//! One GRPO step: sample, score, compare siblings, ascend.
//!
//! Shao et al. 2024 (arXiv 2402.03300), with the variants of [`GrpoConfig`]. Left out on purpose: a
//! critic, a reward model trained alongside, and any state between steps but the policy, the
//! optimizer, the loader's place in the data, and with `rollout.max_staleness` the batches sampled ahead.

use super::advantage::{advantages, is_zero_spread};
use super::ahead::{dropped, further_batch, learnt, next_batch};
use super::balance::balanced;
use super::gather::{GatheredGroup, gather_rewards};
use super::minibatch::{Advantages, minibatches};
use super::report::{GrpoLog, Seen, metrics};
use super::shaped::{ShapedGroup, shaped_groups};
use super::update::optimize;
use crate::TrainError;
use crate::algorithm::{Algorithm, StepContext, StepEnd};
use crate::config::{GrpoConfig, ZeroSpread};
use crate::rollout_batch::ScoredGroup;
use crate::samples::{sample_rows, to_leader};
use crate::step_samples::StepSamples;

/// How often a step draws further prompts to replace zero-spread groups (dynamic sampling).
const RESAMPLES: usize = 2;

impl Algorithm for GrpoConfig {
    fn step(&self, cx: &mut StepContext) -> Result<StepEnd, TrainError> {
        let ranks = cx.stage.ranks.clone();
        let before = cx.loader.state();
        let mut log = GrpoLog::start(cx);

        // 1. Sample and score groups, or take what was sampled ahead; shape their rewards.
        let Some(groups) = self.rollout_groups(cx, &mut log)? else {
            return dropped(self, cx, &before);
        };

        // 2. Every rank sees every reward, and compares siblings.
        let all = gather_rewards(&ranks, &groups)?;
        let totals = || all.iter().flat_map(|group| &group.totals);
        let unscored = totals().filter(|total| total.is_none()).count();
        cx.stage.scorer.check_step(unscored, totals().count())?;
        let rewards: Vec<Vec<Option<f64>>> = all.iter().map(|group| group.shaped.clone()).collect();
        let computed = advantages(&rewards, &self.advantage);
        let by_draw: Advantages = all
            .iter()
            .zip(&computed)
            .map(|(group, advantages)| (group.draw, advantages.as_slice()))
            .collect();

        // 3. Rows of what was sampled go to rank 0, which writes them.
        let id = cx.id();
        let rows = groups.iter().map(|group| {
            let advantages = by_draw.get(&group.scored.group.prompt.draw);
            sample_rows(&id, &group.scored, advantages.copied())
        });
        let rows = to_leader(&ranks, rows.collect())?;

        // 4. Minibatches of whole groups, as many rows on each rank; zero-spread and masked completions are only measured.
        let batches = minibatches(self, groups, &all, &by_draw);
        let batches = balanced(&ranks, cx.learner, batches)?;
        let Some(update) = optimize(self, cx, &batches)? else {
            return dropped(self, cx, &before);
        };
        learnt(cx);

        // 5. What was seen decides what is drawn next.
        let scored = |group: &GatheredGroup| {
            let totals: Vec<f64> = group.totals.iter().flatten().copied().collect();
            (!totals.is_empty()).then_some((group.draw, totals))
        };
        let seen: Vec<(u64, Vec<f64>)> = all.iter().filter_map(scored).collect();
        let seen = seen.iter().map(|(draw, totals)| (*draw, totals.as_slice()));
        cx.loader.observe(&seen.collect::<Vec<_>>(), log.end());
        let tokens = update.learnt as u64;
        let seen = Seen {
            all: &all,
            rows: &rows,
        };
        let metrics = metrics(cx, &log, &update, &seen)?;
        Ok(StepEnd::Done {
            metrics,
            rows: StepSamples::Sampled(rows),
            tokens,
        })
    }
}

impl GrpoConfig {
    /// This rank's share of the step's groups; `None` when a signal's grace ran out on any rank.
    fn rollout_groups(
        &self,
        cx: &mut StepContext,
        log: &mut GrpoLog,
    ) -> Result<Option<Vec<ShapedGroup>>, TrainError> {
        let Some((scored, draw)) = next_batch(self, cx)? else {
            return Ok(None);
        };
        let mut groups = self.shape(cx, scored)?;
        log.drawn(draw);
        if self.advantage.zero_spread != ZeroSpread::Refill {
            return Ok(Some(groups));
        }
        for attempt in 1..=RESAMPLES {
            let usable = groups.iter().filter(|group| !is_zero_spread(&group.shaped));
            let [usable] = cx.stage.ranks.sum([usable.count() as f64])?;
            let missing = cx.stage.common.batch.size.saturating_sub(usable as usize);
            if missing == 0 {
                break;
            }
            let Some((scored, draw)) = further_batch(self, cx, (attempt, missing))? else {
                return Ok(None);
            };
            groups.extend(self.shape(cx, scored)?);
            log.drawn(draw);
        }
        Ok(Some(groups))
    }

    /// Groups with their pictures, and the rewards that advantages are made of.
    fn shape(
        &self,
        cx: &StepContext,
        scored: Vec<ScoredGroup>,
    ) -> Result<Vec<ShapedGroup>, TrainError> {
        let prompts = scored.iter().map(|of| &of.group.prompt);
        let views = cx.learner.encode_images(prompts)?;
        shaped_groups(self, cx, scored, views)
    }
}
