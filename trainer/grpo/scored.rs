//! Completions scored as they finish: rendering runs on threads while others still decode.

use std::rc::Rc;
use std::time::Instant;

use models::Decoder;
use models::EncodedImages;
use rewards::{Candidate, Reward, ScoreJob, Scorer};
use rollout::{Engine, FinishReason, Group, Prompt, Request, RolloutError};

use crate::TrainError;
use crate::interrupt::Interrupt;
use crate::learner::guarded;

/// A group with the reward of each completion.
#[derive(Debug, Clone)]
pub struct ScoredGroup {
    /// The prompt and its completions.
    pub group: Group,
    /// Their rewards, aligned.
    pub rewards: Vec<Reward>,
    /// The prompt's pictures as the policy that wrote them saw them.
    pub view: Option<Rc<EncodedImages>>,
}

/// What sampling and scoring took.
#[derive(Debug, Clone, Copy, Default)]
pub struct CollectTimes {
    /// Seconds until the last completion ended.
    pub generate_s: f64,
    /// Seconds of scoring that decoding did not hide.
    pub score_exposed_s: f64,
}

/// How the completions of a set of prompts are collected.
pub struct Collect<'a> {
    /// The policy that looks at the prompts' pictures, once each.
    pub model: &'a Decoder,
    /// Completions of each prompt.
    pub samples: usize,
    /// Training step, for weight schedules.
    pub step: u64,
    /// Whether the tasks' metrics are wanted whatever the tasks say.
    pub measure: bool,
    /// Recorded with each group.
    pub policy_version: u64,
    /// Ends the collection early.
    pub interrupt: &'a Interrupt,
}

/// Samples and scores `prompts`; `None` when the interrupt's grace ran out.
///
/// # Errors
/// A reference that its task's rewards cannot use; a lost scoring service; the engine's.
pub fn collect(
    engine: &mut dyn Engine,
    scorer: &Scorer,
    prompts: Vec<Prompt>,
    how: &Collect,
) -> Result<Option<(Vec<ScoredGroup>, CollectTimes)>, TrainError> {
    for prompt in &prompts {
        let stop = || how.interrupt.expired();
        let usable = scorer.check_reference_unless(&prompt.task, &prompt.reference, &stop);
        let Ok(usable) = usable else {
            return Ok(None);
        };
        if let Err(problem) = usable {
            if given_up(scorer, how.interrupt)? {
                return Ok(None);
            }
            return Err(TrainError::Input(format!(
                "example {}: task {}: {problem}",
                prompt.id, prompt.task
            )));
        }
    }
    scorer.reload();
    let started = Instant::now();
    let views = looked_at(how.model, &prompts)?;
    let requests = prompts
        .iter()
        .enumerate()
        .map(|(group, prompt)| Request {
            group,
            ids: prompt.ids.clone(),
            view: views[group].clone(),
            samples: how.samples,
            draw: prompt.draw,
            lengths: None,
        })
        .collect();
    engine.submit(requests)?;
    let mut completions: Vec<Vec<_>> = prompts
        .iter()
        .map(|_| (0..how.samples).map(|_| None).collect())
        .collect();
    loop {
        let finished = match engine.next_unless(&|| how.interrupt.expired()) {
            Ok(Some(finished)) => finished,
            Ok(None) => break,
            Err(RolloutError::Stopped) => {
                scorer.abandon();
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let prompt = &prompts[finished.group];
        let completion = finished.completion;
        scorer.submit(ScoreJob {
            key: (finished.group * how.samples + finished.index) as u64,
            task: prompt.task.clone(),
            step: how.step,
            measure: how.measure,
            prompt: prompt.text.clone().unwrap_or_else(|| "".into()),
            reference: prompt.reference.clone(),
            candidate: Candidate {
                text: completion.text.clone().unwrap_or_default(),
                truncated: completion.finish == FinishReason::Length,
            },
        });
        completions[finished.group][finished.index] = Some(completion);
    }
    let generated = Instant::now();
    let mut rewards: Vec<Vec<Option<Reward>>> =
        prompts.iter().map(|_| vec![None; how.samples]).collect();
    loop {
        let Ok(scored) = scorer.next_unless(&|| how.interrupt.expired()) else {
            scorer.abandon();
            return Ok(None);
        };
        let Some(scored) = scored else {
            break;
        };
        let key = scored.key as usize;
        rewards[key / how.samples][key % how.samples] = Some(scored.reward);
    }
    scorer.offload();
    if given_up(scorer, how.interrupt)? {
        return Ok(None);
    }
    let times = CollectTimes {
        generate_s: (generated - started).as_secs_f64(),
        score_exposed_s: generated.elapsed().as_secs_f64(),
    };
    let groups = prompts
        .into_iter()
        .zip(completions)
        .zip(rewards)
        .zip(views)
        .map(|(((prompt, completions), rewards), view)| ScoredGroup {
            group: Group {
                prompt,
                completions: completions.into_iter().flatten().collect(),
                policy_version: how.policy_version,
            },
            rewards: rewards.into_iter().flatten().collect(),
            view,
        })
        .collect();
    Ok(Some((groups, times)))
}

/// Whether judgements were lost after a signal had come: then the step is dropped like one that did
/// not end in time.
///
/// # Errors
/// A loss when nobody asked the run to stop.
fn given_up(scorer: &Scorer, interrupt: &Interrupt) -> Result<bool, TrainError> {
    match scorer.check() {
        Ok(()) => Ok(false),
        Err(_) if interrupt.asked() => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The pictures of each prompt, looked at by `model`.
///
/// # Errors
/// Pictures for a policy without a tower; libtorch ending an operation.
pub fn looked_at(
    model: &Decoder,
    prompts: &[Prompt],
) -> Result<Vec<Option<Rc<EncodedImages>>>, TrainError> {
    let shown: Vec<_> = prompts
        .iter()
        .filter_map(|prompt| prompt.shown.clone())
        .collect();
    let mut views = guarded(|| model.encode_images(&shown))??.into_iter();
    Ok(prompts
        .iter()
        .map(|prompt| prompt.shown.as_ref().and_then(|_| views.next()))
        .collect())
}
