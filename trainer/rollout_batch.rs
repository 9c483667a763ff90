//! A set of prompts on the way to scored groups: what was asked for, what has come, what it earned.

use rewards::{Candidate, Reward, ScoreJob, Scored, Scorer};
use rollout::{
    Completion, Engine, FinishReason, Finished, Group, Prompt, Request, Sampling, Submission,
};

use crate::TrainError;

/// A group with the reward of each completion.
#[derive(Debug, Clone)]
pub struct ScoredGroup {
    /// The prompt and its completions.
    pub group: Group,
    /// Their rewards, aligned.
    pub rewards: Vec<Reward>,
}

/// How completions of a set of prompts are sampled and scored.
#[derive(Debug, Clone)]
pub struct RolloutArgs {
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
}

/// Prompts whose completions and rewards are coming.
#[derive(Debug)]
pub struct OpenRollout {
    prompts: Vec<Prompt>,
    args: RolloutArgs,
    /// The engine's number of the first group: those of rollouts that are under way together are distinct.
    first: usize,
    completions: Vec<Vec<Option<Completion>>>,
    rewards: Vec<Vec<Option<Reward>>>,
    /// Whether what is missing was asked for.
    under_way: bool,
}

impl OpenRollout {
    /// Nothing has been asked for yet; groups are numbered from `first`.
    pub fn new(prompts: Vec<Prompt>, args: RolloutArgs, first: usize) -> Self {
        Self {
            completions: prompts.iter().map(|_| vec![None; args.samples]).collect(),
            rewards: prompts.iter().map(|_| vec![None; args.samples]).collect(),
            prompts,
            args,
            first,
            under_way: false,
        }
    }

    /// What is sampled.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// Asks for the completions of groups that are not whole.
    ///
    /// # Errors
    /// The engine's.
    pub fn submit(&mut self, engine: &mut dyn Engine) -> Result<(), TrainError> {
        let missing = (0..self.prompts.len()).filter(|group| !self.is_whole(*group));
        let request = |group: usize| Request {
            group: self.first + group,
            ids: self.prompts[group].ids.clone(),
            images: self.prompts[group].shown.clone(),
            samples: self.args.samples,
            draw: self.prompts[group].draw,
            lengths: None,
        };
        engine.submit(Submission {
            requests: missing.map(request).collect(),
            sampling: self.args.sampling.clone(),
            seed: self.args.seed,
        })?;
        self.under_way = !self.is_scored();
        Ok(())
    }

    /// Takes a completion of its own and has it scored; gives another's back.
    pub fn take(&mut self, finished: Finished, scorer: &Scorer) -> Option<Finished> {
        let own = finished.group.checked_sub(self.first);
        let Some(group) = own.filter(|group| *group < self.prompts.len()) else {
            return Some(finished);
        };
        scorer.submit(self.score_job(group, &finished));
        self.completions[group][finished.index] = Some(finished.completion);
        None
    }

    /// Takes a reward of its own; gives another's back.
    pub fn take_reward(&mut self, scored: Scored) -> Option<Scored> {
        let key = scored.key as usize;
        let (group, index) = (key / self.args.samples, key % self.args.samples);
        let own = group.checked_sub(self.first);
        let Some(group) = own.filter(|group| *group < self.prompts.len()) else {
            return Some(scored);
        };
        self.rewards[group][index] = Some(scored.reward);
        self.under_way = !self.is_scored();
        None
    }

    /// Fills in a group that was sampled and scored before, by its draw; whether it is one of these.
    pub fn know(&mut self, draw: u64, completions: &[Completion], rewards: &[Reward]) -> bool {
        let samples = self.args.samples;
        let own = self.prompts.iter().position(|prompt| prompt.draw == draw);
        let Some(group) = own.filter(|_| (completions.len(), rewards.len()) == (samples, samples))
        else {
            return false;
        };
        self.completions[group] = completions.iter().cloned().map(Some).collect();
        self.rewards[group] = rewards.iter().cloned().map(Some).collect();
        true
    }

    /// Whether what is missing was asked for.
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// How many completions have come, and of how many.
    pub fn sampled(&self) -> (usize, usize) {
        let all = || self.completions.iter().flatten();
        (all().filter(|one| one.is_some()).count(), all().count())
    }

    /// Whether every completion has come.
    pub fn is_sampled(&self) -> bool {
        self.completions.iter().flatten().all(Option::is_some)
    }

    /// Whether every completion is scored.
    pub fn is_scored(&self) -> bool {
        (0..self.prompts.len()).all(|group| self.is_whole(group))
    }

    /// What was asked for will not come: groups that are not whole begin anew.
    pub fn lose(&mut self) {
        for group in 0..self.prompts.len() {
            if !self.is_whole(group) {
                self.completions[group].fill(None);
                self.rewards[group].fill(None);
            }
        }
        self.under_way = false;
    }

    /// The groups that are whole.
    pub fn groups(&self) -> Vec<ScoredGroup> {
        let whole = (0..self.prompts.len()).filter(|group| self.is_whole(*group));
        whole
            .map(|group| ScoredGroup {
                group: Group {
                    prompt: self.prompts[group].clone(),
                    completions: self.completions[group].iter().flatten().cloned().collect(),
                },
                rewards: self.rewards[group].iter().flatten().cloned().collect(),
            })
            .collect()
    }

    /// All groups, once they are whole.
    pub fn into_groups(self) -> Vec<ScoredGroup> {
        let groups = self.prompts.into_iter().zip(self.completions);
        groups
            .zip(self.rewards)
            .map(|((prompt, completions), rewards)| ScoredGroup {
                group: Group {
                    prompt,
                    completions: completions.into_iter().flatten().collect(),
                },
                rewards: rewards.into_iter().flatten().collect(),
            })
            .collect()
    }

    fn is_whole(&self, group: usize) -> bool {
        self.rewards[group].iter().all(Option::is_some)
    }

    fn score_job(&self, group: usize, finished: &Finished) -> ScoreJob {
        let (prompt, completion) = (&self.prompts[group], &finished.completion);
        ScoreJob {
            key: (finished.group * self.args.samples + finished.index) as u64,
            task: prompt.task.clone(),
            step: self.args.step,
            measure: self.args.measure,
            id: prompt.id.clone(),
            prompt: prompt.asked.clone(),
            reference: prompt.reference.clone(),
            candidate: Candidate {
                text: completion.text.clone().unwrap_or_default(),
                truncated: completion.finish == FinishReason::Length,
            },
        }
    }
}
