//! Completions scored as they finish: rendering runs on threads while others still decode.

use rayon::prelude::*;
use rewards::{Scored, Scorer};
use rollout::{Engine, Finished, Prompt, RolloutError};

use crate::TrainError;
use crate::interrupt::Interrupt;
use crate::rollout_batch::{OpenRollout, RolloutArgs, ScoredGroup};
use crate::telemetry::{self, Phase};

/// Evaluations and pairs are scored by the weights that the rubrics' schedules end with, so that they compare whenever
/// they are made; exact in a double, for services.
pub(crate) const LAST_STEP: u64 = (1 << 53) - 1;

/// What samples and scores.
pub struct RolloutWorkers<'a> {
    /// Samples completions.
    pub engine: &'a mut dyn Engine,
    /// Scores them.
    pub scorer: &'a Scorer,
    /// Ends a rollout early.
    pub interrupt: &'a Interrupt,
}

/// Samples and scores `prompts`; `None` when the interrupt's grace ran out.
///
/// # Errors
/// A reference that its task's rewards cannot use; a lost scoring service; the engine's.
pub fn sample_and_score(
    workers: &mut RolloutWorkers,
    prompts: Vec<Prompt>,
    args: RolloutArgs,
) -> Result<Option<Vec<ScoredGroup>>, TrainError> {
    if !workers.references_fit(&prompts)? {
        return Ok(None);
    }
    let mut rollout = OpenRollout::new(prompts, args, 0);
    workers.scorer.reload();
    let scored = workers.collect(&mut rollout, &mut [])?;
    Ok(scored.then(|| rollout.into_groups()))
}

impl RolloutWorkers<'_> {
    /// Waits until all of `awaited` is sampled and scored, asking for it if nobody has; what comes of `others`, which are
    /// under way beside it, is theirs. Whether it is: an interrupt's grace may run out first, and all that is not whole is
    /// lost then.
    ///
    /// # Errors
    /// A lost scoring service; the engine's.
    pub fn collect(
        &mut self,
        awaited: &mut OpenRollout,
        others: &mut [&mut OpenRollout],
    ) -> Result<bool, TrainError> {
        let alone = !others.iter().any(|other| other.is_under_way());
        let generate = Phase::Generate.enter();
        if !awaited.is_under_way() && !awaited.is_scored() {
            awaited.submit(self.engine)?;
        }
        // An engine that is asked to its end frees what it needed.
        while alone || !awaited.is_sampled() {
            match self.engine.next_unless(&|| self.interrupt.expired()) {
                Ok(Some(finished)) => {
                    hand_out(finished, self.scorer, awaited, others);
                    let (done, all) = awaited.sampled();
                    telemetry::progress(done, all);
                }
                Ok(None) => break,
                Err(RolloutError::Stopped) => return Ok(self.lose(awaited, others)),
                Err(error) => return Err(error.into()),
            }
        }
        match self.engine.rest_unless(&|| self.interrupt.expired()) {
            Err(RolloutError::Stopped) => return Ok(self.lose(awaited, others)),
            rested => rested?,
        }
        drop(generate);
        let exposed = Phase::ScoreExposed.enter();
        while !awaited.is_scored() {
            if !alone {
                self.look(awaited, others)?;
            }
            match self.scorer.next_unless(&|| self.interrupt.expired()) {
                Ok(Some(scored)) => hand_out_reward(scored, awaited, others),
                Ok(None) => break,
                Err(_) => return Ok(self.lose(awaited, others)),
            }
        }
        if alone {
            self.scorer.offload();
        }
        drop(exposed);
        if self.interrupted()? {
            return Ok(self.lose(awaited, others));
        }
        match awaited.is_scored() {
            true => Ok(true),
            false => Err(TrainError::Other(
                "a completion that was asked for has not come, or was not scored".into(),
            )),
        }
    }

    /// Takes what has come by now, without waiting, and has it scored.
    ///
    /// # Errors
    /// The engine's.
    pub fn look(
        &mut self,
        first: &mut OpenRollout,
        others: &mut [&mut OpenRollout],
    ) -> Result<(), TrainError> {
        while let Some(finished) = self.engine.poll()? {
            hand_out(finished, self.scorer, first, others);
        }
        while let Some(scored) = self.scorer.ready() {
            hand_out_reward(scored, first, others);
        }
        Ok(())
    }

    /// Gives up what is under way.
    fn lose(&self, awaited: &mut OpenRollout, others: &mut [&mut OpenRollout]) -> bool {
        self.scorer.abandon();
        awaited.lose();
        others.iter_mut().for_each(|other| other.lose());
        false
    }

    /// Whether the tasks' rewards can use every reference; false when the interrupt's grace ran out.
    ///
    /// # Errors
    /// One that they cannot use, by its example's name.
    pub fn references_fit(&self, prompts: &[Prompt]) -> Result<bool, TrainError> {
        let (scorer, interrupt) = (self.scorer, self.interrupt);
        // Each may have to be drawn.
        let check = |prompt: &Prompt| {
            let stop = || interrupt.expired();
            scorer.check_reference_unless(&prompt.task, &prompt.reference, &stop)
        };
        let checked: Vec<_> = prompts.par_iter().with_max_len(1).map(check).collect();
        for (prompt, usable) in prompts.iter().zip(checked) {
            let Ok(usable) = usable else {
                return Ok(false);
            };
            if let Err(problem) = usable {
                if self.interrupted()? {
                    return Ok(false);
                }
                return Err(TrainError::Input(format!(
                    "example {}: task {}: {problem}",
                    prompt.id, prompt.task
                )));
            }
        }
        Ok(true)
    }

    /// Whether judgements were lost after a signal had come: then the step is dropped like one that did
    /// not end in time.
    ///
    /// # Errors
    /// A loss when nobody asked the run to stop.
    fn interrupted(&self) -> Result<bool, TrainError> {
        match self.scorer.check() {
            Ok(()) => Ok(false),
            Err(_) if self.interrupt.asked() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// Gives a completion to the rollout that it is of.
fn hand_out(
    finished: Finished,
    scorer: &Scorer,
    first: &mut OpenRollout,
    others: &mut [&mut OpenRollout],
) {
    let mut left = first.take(finished, scorer);
    for other in others {
        left = left.and_then(|finished| other.take(finished, scorer));
    }
}

/// Gives a reward to the rollout that it is of.
fn hand_out_reward(scored: Scored, first: &mut OpenRollout, others: &mut [&mut OpenRollout]) {
    let mut left = first.take_reward(scored);
    for other in others {
        left = left.and_then(|scored| other.take_reward(scored));
    }
}
