//! One GRPO step: sample, score, compare siblings, ascend.
//!
//! Shao et al. 2024 (arXiv 2402.03300), with the variants of [`GrpoConfig`]. Left out on purpose: a
//! critic, a reward model trained alongside, and any state between steps but the policy, the
//! optimizer and the loader's place in the data.

use rollout::Sampling;

use super::advantage::{advantages, is_zero_spread};
use super::gather::{GatheredGroup, gather_rewards};
use super::length::most_tokens;
use super::minibatch::{Advantages, minibatches};
use super::report::{GrpoLog, Seen, metrics};
use super::shaped::{ShapedGroup, shaped_groups};
use super::update::optimize;
use crate::TrainError;
use crate::algorithm::{Algorithm, StepContext, StepEnd};
use crate::config::{AnswerSelection, GrpoConfig, ZeroSpread};
use crate::loader::PromptRequest;
use crate::rollouts::{RolloutArgs, sample_and_score};
use crate::samples::{sample_rows, to_leader};

/// How often a step draws further prompts to replace zero-spread groups (dynamic sampling).
const RESAMPLES: usize = 2;

impl Algorithm for GrpoConfig {
    fn step(&self, cx: &mut StepContext) -> Result<StepEnd, TrainError> {
        let ranks = cx.stage.ranks.clone();
        let before = cx.loader.state();
        let mut log = GrpoLog::start(cx);

        // 1. Sample and score groups, shape their rewards.
        let Some(groups) = self.rollout_groups(cx, &mut log)? else {
            return cx.drop_step(&before);
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

        // 4. Minibatches of whole groups; zero-spread and masked completions are only measured.
        let batches = minibatches(self, groups, &all, &by_draw);
        let Some(update) = optimize(self, cx, &batches)? else {
            return cx.drop_step(&before);
        };

        // 5. What was seen decides what is drawn next.
        let scored = |group: &GatheredGroup| {
            let totals: Vec<f64> = group.totals.iter().flatten().copied().collect();
            (!totals.is_empty()).then_some((group.draw, totals))
        };
        let seen: Vec<(u64, Vec<f64>)> = all.iter().filter_map(scored).collect();
        let seen = seen.iter().map(|(draw, totals)| (*draw, totals.as_slice()));
        cx.loader.observe(&seen.collect::<Vec<_>>());
        let tokens = update.learnt as u64;
        let seen = Seen {
            all: &all,
            rows: &rows,
        };
        let metrics = metrics(cx, &log, &update, &seen)?;
        Ok(StepEnd::Done {
            metrics,
            rows,
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
        let mut groups = Vec::new();
        let mut missing = cx.stage.common.batch.size;
        for attempt in 0..=RESAMPLES {
            let drawn = cx.loader.prompts(PromptRequest {
                count: missing,
                answers: AnswerSelection::Last,
                longest: self.rollout.max_prompt_tokens,
                attempt,
            })?;
            let most = most_tokens(&self.rollout, cx, &drawn.targets)?;
            log.drawn(drawn.too_long, drawn.stats);
            log.bounded(most);
            let args = RolloutArgs {
                sampling: Sampling {
                    max_new_tokens: most,
                    ..self.rollout.sampling()
                },
                seed: cx.stage.seed,
                samples: self.rollout.group_size,
                step: cx.schedule_step(),
                measure: false,
                interrupt: cx.stage.interrupt,
            };
            let scored = sample_and_score(cx.engine, cx.stage.scorer, drawn.prompts, &args)?;
            let dropped = cx.stage.ranks.any(scored.is_none())?;
            let Some(scored) = scored.filter(|_| !dropped) else {
                return Ok(None);
            };
            let views = cx
                .learner
                .encode_images(scored.iter().map(|of| &of.group.prompt))?;
            groups.extend(shaped_groups(self, cx, scored, views)?);
            if self.advantage.zero_spread != ZeroSpread::Refill || attempt == RESAMPLES {
                break;
            }
            let usable = groups.iter().filter(|group| !is_zero_spread(&group.shaped));
            let [usable] = cx.stage.ranks.sum([usable.count() as f64])?;
            missing = cx.stage.common.batch.size.saturating_sub(usable as usize);
            if missing == 0 {
                break;
            }
        }
        Ok(Some(groups))
    }
}
