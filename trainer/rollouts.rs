//! Completions scored as they finish: rendering runs on threads while others still decode.

use rayon::prelude::*;
use rewards::{Candidate, Reward, ScoreJob, Scorer};
use rollout::{Completion, Engine, FinishReason, Group, Prompt, Request, RolloutError, Sampling};
use rollout::{Finished, Submission};

use crate::TrainError;
use crate::interrupt::Interrupt;
use crate::telemetry::Phase;

/// Evaluations and pairs are scored by the weights that the rubrics' schedules end with, so that they compare whenever
/// they are made; exact in a double, for services.
pub(crate) const LAST_STEP: u64 = (1 << 53) - 1;

/// A group with the reward of each completion.
#[derive(Debug, Clone)]
pub struct ScoredGroup {
    /// The prompt and its completions.
    pub group: Group,
    /// Their rewards, aligned.
    pub rewards: Vec<Reward>,
}

/// How completions of a set of prompts are sampled and scored.
pub struct RolloutArgs<'a> {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Completions of each prompt.
    pub samples: usize,
    /// Training step, for weight schedules.
    pub step: u64,
    /// Whether the tasks' metrics are wanted whatever the tasks say.
    pub measure: bool,
    /// Ends the rollout early.
    pub interrupt: &'a Interrupt,
}

/// Samples and scores `prompts`; `None` when the interrupt's grace ran out.
///
/// # Errors
/// A reference that its task's rewards cannot use; a lost scoring service; the engine's.
pub fn sample_and_score(
    engine: &mut dyn Engine,
    scorer: &Scorer,
    prompts: Vec<Prompt>,
    args: &RolloutArgs,
) -> Result<Option<Vec<ScoredGroup>>, TrainError> {
    if !references_fit(scorer, &prompts, args.interrupt)? {
        return Ok(None);
    }
    scorer.reload();
    let generate = Phase::Generate.enter();
    engine.submit(submission(&prompts, args))?;
    let mut completions: Vec<Vec<Option<Completion>>> =
        prompts.iter().map(|_| vec![None; args.samples]).collect();
    loop {
        let finished = match engine.next_unless(&|| args.interrupt.expired()) {
            Ok(Some(finished)) => finished,
            Ok(None) => break,
            Err(RolloutError::Stopped) => {
                scorer.abandon();
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        scorer.submit(score_job(&prompts[finished.group], &finished, args));
        completions[finished.group][finished.index] = Some(finished.completion);
    }
    drop(generate);
    let exposed = Phase::ScoreExposed.enter();
    let mut rewards: Vec<Vec<Option<Reward>>> =
        prompts.iter().map(|_| vec![None; args.samples]).collect();
    loop {
        let Ok(scored) = scorer.next_unless(&|| args.interrupt.expired()) else {
            scorer.abandon();
            return Ok(None);
        };
        let Some(scored) = scored else {
            break;
        };
        let key = scored.key as usize;
        rewards[key / args.samples][key % args.samples] = Some(scored.reward);
    }
    scorer.offload();
    drop(exposed);
    if interrupted(scorer, args.interrupt)? {
        return Ok(None);
    }
    let policy_version = engine.stats().policy_version;
    let groups = prompts.into_iter().zip(completions).zip(rewards);
    Ok(Some(
        groups
            .map(|((prompt, completions), rewards)| ScoredGroup {
                group: Group {
                    prompt,
                    completions: completions.into_iter().flatten().collect(),
                    policy_version,
                },
                rewards: rewards.into_iter().flatten().collect(),
            })
            .collect(),
    ))
}

/// Whether the tasks' rewards can use every reference; false when the interrupt's grace ran out.
///
/// # Errors
/// One that they cannot use, by its example's name.
fn references_fit(
    scorer: &Scorer,
    prompts: &[Prompt],
    interrupt: &Interrupt,
) -> Result<bool, TrainError> {
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
            if interrupted(scorer, interrupt)? {
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

fn submission(prompts: &[Prompt], args: &RolloutArgs) -> Submission {
    let request = |(group, prompt): (usize, &Prompt)| Request {
        group,
        ids: prompt.ids.clone(),
        images: prompt.shown.clone(),
        samples: args.samples,
        draw: prompt.draw,
        lengths: None,
    };
    Submission {
        requests: prompts.iter().enumerate().map(request).collect(),
        sampling: args.sampling.clone(),
        seed: args.seed,
    }
}

fn score_job(prompt: &Prompt, finished: &Finished, args: &RolloutArgs) -> ScoreJob {
    let completion = &finished.completion;
    ScoreJob {
        key: (finished.group * args.samples + finished.index) as u64,
        task: prompt.task.clone(),
        step: args.step,
        measure: args.measure,
        id: prompt.id.clone(),
        prompt: prompt.asked.clone(),
        reference: prompt.reference.clone(),
        candidate: Candidate {
            text: completion.text.clone().unwrap_or_default(),
            truncated: completion.finish == FinishReason::Length,
        },
    }
}

/// Whether judgements were lost after a signal had come: then the step is dropped like one that did
/// not end in time.
///
/// # Errors
/// A loss when nobody asked the run to stop.
fn interrupted(scorer: &Scorer, interrupt: &Interrupt) -> Result<bool, TrainError> {
    match scorer.check() {
        Ok(()) => Ok(false),
        Err(_) if interrupt.asked() => Ok(true),
        Err(error) => Err(error.into()),
    }
}
