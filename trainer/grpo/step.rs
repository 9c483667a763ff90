//! One GRPO step, as the paper has it: sample groups, score them, compare siblings, ascend.
//!
//! Shao et al. 2024 (arXiv 2402.03300), with the variants of [`crate::config::GrpoStage`]. Left
//! out on purpose: a critic, a reward model trained alongside, and any state between steps but
//! the policy, the optimizer and the data cursor.

use std::time::Instant;

use indexmap::IndexMap;
use models::Decoder;
use models::vision::Vision;
use rewards::Scorer;
use rollout::data::{Cursor, CursorState};
use rollout::{FinishReason, LocalEngine, Prompt};
use tch::Kind;

use super::advantage::{advantages, is_zero_spread};
use super::batch::{Trajectory, micro_batches};
use super::loss::{SUMS, kl_estimate};
use super::scored::{Collect, ScoredGroup, collect};
use super::update::Lessons;
use crate::config::{GrpoStage, KlPlace, TaskConfig, Truncated, Turns, ZeroSpread};
use crate::interrupt::Interrupt;
use crate::learner::{Learner, Update};
use crate::metrics::Metrics;
use crate::optim::learning_rate;
use crate::prompts::Prompts;
use crate::samples::{Place, SampleRow, reward_metrics};
use crate::tally::Tally;
use crate::{StepEnd, TrainError, exchange, replica};

/// How often a step draws further prompts to replace zero-spread groups.
const REFILLS: usize = 2;

/// What a GRPO stage's steps share.
pub struct Trainer<'a> {
    /// The stage's section.
    pub config: &'a GrpoStage,
    /// Scores completions.
    pub scorer: &'a Scorer,
    /// The tasks, whose rubrics may normalise their parts.
    pub tasks: &'a IndexMap<String, TaskConfig>,
    /// The reference policy, where a KL term needs one.
    pub reference: Option<Decoder>,
    /// Seed of the completions' random numbers.
    pub seed: u64,
    /// Asks the step to be dropped.
    pub interrupt: &'a Interrupt,
}

/// A group with the rewards that its advantages are made of: totals, less the KL penalty where it
/// acts in the reward.
pub(crate) type Shaped = (ScoredGroup, Vec<f64>);

/// Seconds of one step's phases.
#[derive(Debug, Default)]
struct Times {
    generate_s: f64,
    score_exposed_s: f64,
    forward_backward_s: f64,
}

/// What one step counted.
#[derive(Debug, Default)]
struct Counts {
    too_long: u64,
    pictures: f64,
    prefills: f64,
    /// What the judges of all ranks were asked, failed to say, and cost.
    judged: Option<[f64; 3]>,
    /// What was drawn.
    tally: Tally,
}

/// Seconds, counts and sums of one step.
#[derive(Debug, Default)]
pub struct GrpoStats {
    times: Times,
    counts: Counts,
    zero_spread: f64,
    pub(super) update: Update,
    pub(super) skipped: f64,
    /// The total rewards of every group of all ranks, by draw.
    totals: Vec<(u64, Vec<f64>)>,
    /// Completion tokens learnt from, every pass counted.
    pub(super) learnt: f64,
    /// [`SUMS`] over all tokens, then the tokens.
    pub(super) sums: Vec<f64>,
}

impl Trainer<'_> {
    /// Runs step `step` (from 1).
    ///
    /// # Errors
    /// The engine's, the learner's, a bad row, a lost rank.
    pub fn step(
        &self,
        learner: &mut Learner,
        (prompts, cursor): (&Prompts, &mut Cursor),
        step: u64,
    ) -> Result<StepEnd, TrainError> {
        let started = Instant::now();
        let before: CursorState = cursor.state();
        let mut stats = GrpoStats::default();
        let before_looks = looked(learner);
        let Some(scored) = self.rollout(learner, (prompts, &mut *cursor), step, &mut stats)? else {
            cursor.restore(&before)?;
            return Ok(StepEnd::Dropped);
        };
        let (rows, lessons) = self.advantages(learner, scored, step, &mut stats)?;
        let lr = learning_rate(&self.config.optimizer, step, self.config.steps);
        let learning = Instant::now();
        if !self.learn(learner, &lessons, lr, &mut stats)? {
            cursor.restore(&before)?;
            return Ok(StepEnd::Dropped);
        }
        stats.times.forward_backward_s =
            learning.elapsed().as_secs_f64() - stats.update.reduce_s - stats.update.optim_s;
        stats.counts.pictures = (looked(learner) - before_looks) as f64;
        stats.counts.judged = self.judged(learner)?;
        let totals = stats.totals.iter();
        cursor.observe(totals.map(|(draw, rewards)| (*draw, rewards.as_slice())));
        let mut metrics = self.metrics(&rows, &stats, (lr, started.elapsed().as_secs_f64()));
        metrics.extend(stats.counts.tally.metrics(cursor));
        Ok(StepEnd::Done {
            metrics,
            rows,
            tokens: stats.learnt as u64,
        })
    }

    /// Samples and scores this rank's share of the step's prompts.
    fn rollout(
        &self,
        learner: &Learner,
        (prompts, cursor): (&Prompts, &mut Cursor),
        step: u64,
        stats: &mut GrpoStats,
    ) -> Result<Option<Vec<Shaped>>, TrainError> {
        let rollout = &self.config.rollout;
        let tokenizer = prompts.tokenizer();
        let mut engine = LocalEngine::new(
            &learner.model,
            Some(tokenizer),
            rollout.sampling(),
            (self.seed, rollout.slots),
        )?;
        let mut all = Vec::new();
        let mut wanted = self.config.batch.size;
        for round in 0..=REFILLS {
            let share = (learner.group.rank(), learner.group.size());
            let asked = (wanted, Turns::Last);
            let drawn = prompts.draw(cursor, asked, rollout.max_prompt_tokens, share)?;
            stats.counts.too_long += drawn.too_long;
            stats.counts.tally.merge(drawn.tally);
            let mut own: Vec<Prompt> = drawn.prompts;
            if round > 0 {
                // The same row may have been drawn before the refill.
                own.iter_mut()
                    .for_each(|prompt| prompt.id = format!("{}#refill{round}", prompt.id));
            }
            let how = Collect {
                model: &learner.model,
                samples: rollout.group_size,
                step,
                measure: false,
                policy_version: learner.optimizer.updates,
                interrupt: self.interrupt,
            };
            let collected = collect(&mut engine, self.scorer, own, &how)?;
            let dropped = replica::sum_numbers(
                &learner.group,
                learner.device(),
                &[f64::from(collected.is_none())],
            )?[0]
                > 0.0;
            let Some((groups, times)) = collected.filter(|_| !dropped) else {
                return Ok(None);
            };
            stats.times.generate_s += times.generate_s;
            stats.times.score_exposed_s += times.score_exposed_s;
            stats.counts.prefills = engine.prefills() as f64;
            let shaped = self.shaped_rewards(learner, &groups, step)?;
            all.extend(groups.into_iter().zip(shaped));
            if self.config.advantage.zero_spread != ZeroSpread::Refill || round == REFILLS {
                break;
            }
            let usable = all
                .iter()
                .filter(|(_, rewards)| !is_zero_spread(rewards))
                .count() as f64;
            let usable =
                replica::sum_numbers(&learner.group, learner.device(), &[usable])?[0] as usize;
            wanted = self.config.batch.size.saturating_sub(usable);
            if wanted == 0 {
                break;
            }
        }
        Ok(Some(all))
    }

    /// Compares siblings: every rank sees every reward, and keeps the trajectories of its own
    /// groups. Zero-spread groups are dropped here and only here.
    pub(crate) fn advantages(
        &self,
        learner: &Learner,
        scored: Vec<Shaped>,
        step: u64,
        stats: &mut GrpoStats,
    ) -> Result<(Vec<SampleRow>, Lessons), TrainError> {
        let place = Place {
            stage: &self.config.name,
            step,
            policy_version: learner.optimizer.updates,
        };
        let own: Vec<exchange::SharedGroup> = scored
            .iter()
            .map(|(scored, shaped)| exchange::SharedGroup::new(&place, scored, shaped.clone()))
            .collect();
        let mut all = exchange::all_groups(&learner.group, learner.device(), own)?;
        let totals = |rows: &[SampleRow]| rows.iter().map(|row| row.total).collect();
        stats.totals = all.iter().map(|of| (of.draw, totals(&of.rows))).collect();
        let rewards: Vec<Vec<f64>> = all.iter().map(|group| group.shaped.clone()).collect();
        let flat = rewards.iter().filter(|group| is_zero_spread(group)).count();
        stats.zero_spread = flat as f64 / rewards.len().max(1) as f64;
        let advantages = advantages(&rewards, &self.config.advantage);
        for (group, advantages) in all.iter_mut().zip(&advantages) {
            for (row, advantage) in group.rows.iter_mut().zip(advantages) {
                row.advantage = *advantage;
            }
        }
        let keep_flat = self.config.advantage.zero_spread == ZeroSpread::Keep;
        // Whole groups go to each update, by their place among all ranks' groups.
        let kept: Vec<u64> = (0..all.len())
            .filter(|&at| keep_flat || !is_zero_spread(&rewards[at]))
            .map(|at| all[at].draw)
            .collect();
        let updates = self.config.loss.updates;
        let mut lessons = Lessons::new(updates);
        for (scored, _) in scored {
            let draw = scored.group.prompt.draw;
            let Some(at) = all.iter().position(|group| group.draw == draw) else {
                continue;
            };
            let update = kept
                .binary_search(&draw)
                .map(|ordinal| ordinal * updates / kept.len());
            for (completion, advantage) in scored.group.completions.into_iter().zip(&advantages[at])
            {
                let masked = completion.finish == FinishReason::Length
                    && self.config.loss.truncated == Truncated::Mask;
                lessons.add(
                    update.ok().filter(|_| !masked),
                    Trajectory {
                        prompt: scored.group.prompt.ids.clone(),
                        view: scored.view.clone(),
                        ids: completion.ids,
                        sampler_logprobs: completion.logprobs,
                        advantage: *advantage,
                    },
                );
            }
        }
        Ok((
            all.into_iter().flat_map(|group| group.rows).collect(),
            lessons,
        ))
    }

    /// What a group's advantages are made of: total rewards, or normalised parts where the task's rubric
    /// says so, less the KL penalty where it acts in the reward.
    pub(crate) fn shaped_rewards(
        &self,
        learner: &Learner,
        scored: &[ScoredGroup],
        step: u64,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let rubric = |task: &str| self.tasks.get(task)?.rubric.as_ref();
        let shape = |scored: &ScoredGroup| match rubric(&scored.group.prompt.task) {
            Some(rubric) => rubric.shaped(&scored.rewards, step),
            None => scored.rewards.iter().map(|reward| reward.total).collect(),
        };
        let mut shaped: Vec<Vec<f64>> = scored.iter().map(shape).collect();
        let kl = &self.config.kl;
        let (Some(reference), KlPlace::Reward) = (&self.reference, kl.place) else {
            return Ok(shaped);
        };
        for (group, shaped) in scored.iter().zip(&mut shaped) {
            let trajectories: Vec<Trajectory> = group
                .group
                .completions
                .iter()
                .map(|completion| Trajectory {
                    prompt: group.group.prompt.ids.clone(),
                    view: group.view.clone(),
                    ids: completion.ids.clone(),
                    sampler_logprobs: completion.logprobs.clone(),
                    advantage: 0.0,
                })
                .collect();
            let mut penalties = Vec::new();
            for micro in micro_batches(
                &trajectories,
                &self.normaliser(1.0, 1.0),
                self.config.batch.micro_tokens,
                learner.device(),
            ) {
                let theirs = Learner::log_probs(
                    reference,
                    &micro,
                    (&self.head(), learner.vision_features()),
                )?;
                let kl =
                    kl_estimate(&(theirs - &micro.sampler), kl.estimator).to_kind(Kind::Double);
                let lengths: Vec<i64> = micro.lengths.iter().map(|len| *len as i64).collect();
                penalties.extend(
                    kl.split_with_sizes(lengths.as_slice(), 0)
                        .iter()
                        .map(|kl| kl.sum(Kind::Double).double_value(&[])),
                );
            }
            for (reward, penalty) in shaped.iter_mut().zip(penalties) {
                *reward -= kl.coefficient * penalty;
            }
        }
        Ok(shaped)
    }

    /// What the judges of all ranks have done; none where no task has one, which is so on every rank.
    fn judged(&self, learner: &Learner) -> Result<Option<[f64; 3]>, TrainError> {
        let Some(own) = self.scorer.judge_count() else {
            return Ok(None);
        };
        let own = [own.asked as f64, own.failed as f64, own.cost];
        let all = replica::sum_numbers(&learner.group, learner.device(), &own)?;
        Ok(all.try_into().ok())
    }

    fn metrics(&self, rows: &[SampleRow], stats: &GrpoStats, (lr, step_s): (f64, f64)) -> Metrics {
        let mut metrics = reward_metrics(&rows.iter().collect::<Vec<_>>());
        metrics.insert("reward/zero_spread_frac".into(), stats.zero_spread);
        if let Some((tokens, sums)) = stats.sums.split_last() {
            for (index, name) in SUMS.iter().enumerate() {
                let divisor = if index == 0 {
                    (self.config.loss.epochs * self.config.loss.updates) as f64
                } else {
                    tokens.max(1.0)
                };
                // A zero is written without a sign.
                metrics.insert((*name).into(), sums[index] / divisor + 0.0);
            }
        }
        let sampled: usize = rows.iter().map(|row| row.token_ids.len()).sum();
        let others = [
            ("optim/lr", lr),
            ("optim/grad_norm", stats.update.grad_norm),
            ("optim/skipped", stats.skipped),
            ("data/long_prompts", stats.counts.too_long as f64),
            ("time/generate_s", stats.times.generate_s),
            ("time/score_exposed_s", stats.times.score_exposed_s),
            ("time/forward_backward_s", stats.times.forward_backward_s),
            ("time/reduce_s", stats.update.reduce_s),
            ("time/optim_s", stats.update.optim_s),
            ("time/step_s", step_s),
            ("perf/tokens_per_s", sampled as f64 / step_s),
            ("perf/rollouts_per_s", rows.len() as f64 / step_s),
            ("perf/pictures", stats.counts.pictures),
            ("perf/prefills", stats.counts.prefills),
        ];
        metrics.extend(others.map(|(name, value)| (name.to_owned(), value)));
        if let Some(judged) = stats.counts.judged {
            let names = ["judge/asked", "judge/failed", "judge/cost"];
            metrics.extend(names.map(str::to_owned).into_iter().zip(judged));
        }
        metrics
    }
}

/// Pictures that went through the learner's tower so far.
fn looked(learner: &Learner) -> u64 {
    learner.model.vision().map_or(0, Vision::images_encoded)
}
