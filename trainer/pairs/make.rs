//! The making: portions of prompts, each sampled and scored as in training, and written before the next.

use rewards::Scorer;
use rollout::data::{Cursor, Draw};
use rollout::{Engine, Prompt};
use serde_json::Value;

use super::journal::PairJournal;
use super::jury::CandidateJury;
use super::row;
use crate::TrainError;
use crate::config::{PairsConfig, ScoredBy};
use crate::interrupt::Interrupt;
use crate::learn::Ranks;
use crate::prompt_builder::PromptBuilder;
use crate::rollout_batch::RolloutArgs;
use crate::rollouts::{LAST_STEP, RolloutWorkers, sample_and_score};

/// How much is made, and of what.
#[derive(Debug, Clone)]
pub(crate) struct MakingPlan {
    /// Prompts in all.
    pub(crate) prompts: usize,
    /// Prompts that are sampled together.
    pub(crate) portion: usize,
    /// Tokens of the longest prompt.
    pub(crate) longest: usize,
    /// Keys the completions' random numbers.
    pub(crate) seed: u64,
    /// What scores.
    pub(crate) scored_by: ScoredBy,
}

/// What pairs are made with.
pub(crate) struct PairMaking<'a> {
    /// The section.
    pub(crate) config: &'a PairsConfig,
    /// How much.
    pub(crate) plan: &'a MakingPlan,
    /// Makes prompts.
    pub(crate) builder: &'a PromptBuilder,
    /// Samples the policy.
    pub(crate) engine: &'a mut dyn Engine,
    /// Scores completions.
    pub(crate) scorer: &'a Scorer,
    /// Scores all completions of a prompt together, where one does.
    pub(crate) jury: Option<&'a CandidateJury>,
    /// The ranks that share the prompts.
    pub(crate) ranks: &'a Ranks,
    /// Ends the making early.
    pub(crate) interrupt: &'a Interrupt,
}

impl PairMaking<'_> {
    /// Makes what `journal`, which all ranks hold alike, lacks; `cursor` stands at the first prompt.
    /// Rank 0 writes. False when a signal came first: whole portions are kept.
    ///
    /// # Errors
    /// A bad row, the engine's, the scorer's, the file system's, a lost rank.
    pub(crate) fn make(
        &mut self,
        cursor: &mut Cursor,
        journal: &mut PairJournal,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<bool, TrainError> {
        let all = self.plan.prompts;
        let mut made = journal.rows().len().min(all);
        cursor.next(made)?;
        while made < all {
            if self.ranks.any(self.interrupt.asked())? {
                return Ok(false);
            }
            let draws = cursor.next(self.plan.portion.min(all - made))?;
            made += draws.len();
            let own = self.portion(draws)?;
            let dropped = self.ranks.any(own.is_none())?;
            let Some(own) = own.filter(|_| !dropped) else {
                return Ok(false);
            };
            let rows = self.of_all_ranks(own)?;
            journal.add(rows)?;
            progress(made as u64, all as u64);
        }
        Ok(true)
    }

    /// This rank's rows of a portion, by draw; `None` when a signal's grace ran out.
    fn portion(&mut self, draws: Vec<Draw>) -> Result<Option<Vec<(u64, Value)>>, TrainError> {
        let mut rows = Vec::new();
        let mut asked: Vec<(Draw, String)> = Vec::new();
        let mut prompts: Vec<Prompt> = Vec::new();
        let own = draws.into_iter().enumerate();
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        for (_, draw) in own.filter(|(at, _)| at % size == rank) {
            let question = self.builder.own_words(&draw)?;
            let prompt = self.builder.without_images(&draw)?;
            if prompt.ids.is_empty() || prompt.ids.len() > self.plan.longest {
                rows.push((draw.draw, row::long_prompt(&draw, &question)));
                continue;
            }
            let mut prompt = self.builder.with_images(prompt, &draw.example)?;
            prompt.task = self.plan.scored_by.task(&prompt.task);
            prompts.push(prompt);
            asked.push((draw, question));
        }
        let args = RolloutArgs {
            sampling: self.config.rollout.sampling(),
            seed: self.plan.seed,
            samples: self.config.candidates,
            step: LAST_STEP,
            measure: false,
        };
        let mut workers = RolloutWorkers {
            engine: &mut *self.engine,
            scorer: self.scorer,
            interrupt: self.interrupt,
        };
        let Some(mut scored) = sample_and_score(&mut workers, prompts, args)? else {
            return Ok(None);
        };
        let mut failures = vec![None; scored.len()];
        if let Some(jury) = self.jury {
            let Some(told) = jury.score(&mut scored, self.interrupt)? else {
                return Ok(None);
            };
            failures = told;
        }
        let scored = asked.iter().zip(&scored).zip(failures);
        let scored = scored.map(|(((draw, question), scored), failure)| {
            let row = row::scored(draw, question, scored, self.config.min_margin);
            (draw.draw, row::with_failure(row, failure))
        });
        rows.extend(scored);
        Ok(Some(rows))
    }

    /// The rows of all ranks on every rank, in the order of their draws.
    fn of_all_ranks(&self, own: Vec<(u64, Value)>) -> Result<Vec<Value>, TrainError> {
        let wrong = |error: serde_json::Error| TrainError::Other(format!("pairs: {error}"));
        let mut all = own;
        if self.ranks.size() > 1 {
            let bytes = serde_json::to_vec(&all).map_err(wrong)?;
            all = Vec::new();
            for part in self.ranks.gather_to_leader(&bytes)? {
                let part: Vec<(u64, Value)> = serde_json::from_slice(&part).map_err(wrong)?;
                all.extend(part);
            }
            let together = serde_json::to_vec(&all).map_err(wrong)?;
            let together = self.ranks.broadcast_from_leader(&together)?;
            all = serde_json::from_slice(&together).map_err(wrong)?;
        }
        all.sort_by_key(|(draw, _)| *draw);
        Ok(all.into_iter().map(|(_, row)| row).collect())
    }
}
