//! A suite's questions, answered by the policy that is trained: every rank answers its share, rank 0 hears of all.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use rewards::Reference;
use rollout::data::{Draw, Example, Talk};
use rollout::{Completion, Engine, Request, RolloutError, Sampling, Submission};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::eval::{Answerer, EvalQuestion, TakeAnswer};
use crate::interrupt::Interrupt;
use crate::learn::Ranks;
use crate::prompt_builder::PromptBuilder;

/// Draw numbers of suites' questions: apart from those of held-out prompts and of training.
const SUITE: u64 = (1 << 62) + (1 << 61);

/// What the policy said to a question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PolicyAnswer {
    /// The question's place among all.
    pub(crate) at: usize,
    /// The prompt as the policy saw it.
    pub(crate) prompt: String,
    /// The completion, or why there is none.
    pub(crate) said: Result<SaidWords, String>,
}

/// A completion as sample files hold it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SaidWords {
    /// Its text.
    pub(crate) text: String,
    /// Its token ids.
    pub(crate) ids: Vec<i64>,
    /// Log-probability of each.
    pub(crate) logprobs: Vec<f32>,
    /// Why it ended.
    pub(crate) finish: rollout::FinishReason,
}

/// The policy as one who answers.
pub(crate) struct PolicyAnswerer<'a> {
    /// Samples it.
    pub(crate) engine: &'a mut dyn Engine,
    /// Makes prompts.
    pub(crate) builder: &'a PromptBuilder,
    /// The task in whose words is asked, and whether they take the instruction alone.
    pub(crate) task: (String, bool),
    /// How it is sampled.
    pub(crate) sampling: Sampling,
    /// Keys random numbers.
    pub(crate) seed: u64,
    /// The ranks that share the questions, and what ends the answering.
    pub(crate) world: (&'a Ranks, &'a Interrupt),
    /// On rank 0, what was answered, in the questions' order.
    pub(crate) answers: Vec<PolicyAnswer>,
    /// Whether a signal's grace ran out on any rank.
    pub(crate) dropped: bool,
}

impl From<Completion> for SaidWords {
    fn from(completion: Completion) -> Self {
        Self {
            text: completion.text.unwrap_or_default(),
            ids: completion.ids,
            logprobs: completion.logprobs,
            finish: completion.finish,
        }
    }
}

impl PolicyAnswerer<'_> {
    fn example(&self, question: &EvalQuestion) -> Example {
        let (task, instruction) = &self.task;
        let own = question.text.split_once("Instruction: ");
        let words = match (instruction, own) {
            (true, Some((_, own))) => own,
            _ => question.text.as_str(),
        };
        Example {
            id: question.item.clone(),
            task: task.clone(),
            fields: IndexMap::from([("prompt".to_owned(), words.to_owned())]),
            talk: Talk {
                whole_question: !*instruction,
                ..Talk::default()
            },
            images: question.picture.iter().cloned().collect(),
            reference: Reference::default(),
            target: None,
            rejected: serde_json::Map::new(),
            length: 0,
        }
    }

    /// This rank's answers; rank 0 hears of its own as they come. False when a signal's grace ran out.
    fn own(
        &mut self,
        questions: &[EvalQuestion],
        take: &mut TakeAnswer,
    ) -> Result<(bool, Vec<PolicyAnswer>), TrainError> {
        let (ranks, interrupt) = self.world;
        let leads = ranks.is_leader();
        let mut answers = Vec::new();
        let mut prompts: HashMap<usize, Arc<str>> = HashMap::new();
        let mut requests = Vec::new();
        let own = questions.iter().enumerate();
        for (at, question) in own.skip(ranks.rank()).step_by(ranks.size()) {
            let draw = Draw {
                example: self.example(question),
                draw: SUITE + question.draw,
                bucket: None,
            };
            match self.builder.prompt(&draw) {
                Ok(prompt) => {
                    prompts.insert(at, prompt.text.clone().unwrap_or_default());
                    requests.push(Request {
                        group: at,
                        ids: prompt.ids,
                        images: prompt.shown,
                        samples: 1,
                        draw: prompt.draw,
                        lengths: None,
                    });
                }
                // A picture that is missing, say: this question's fault.
                Err(error) => {
                    let why = error.to_string();
                    if leads {
                        take(at, Err(why.clone()))?;
                    }
                    answers.push(PolicyAnswer {
                        at,
                        prompt: question.text.clone(),
                        said: Err(why),
                    });
                }
            }
        }
        self.engine.submit(Submission {
            requests,
            sampling: self.sampling.clone(),
            seed: self.seed,
        })?;
        loop {
            let finished = match self.engine.next_unless(&|| interrupt.expired()) {
                Ok(Some(finished)) => finished,
                Ok(None) => break,
                Err(RolloutError::Stopped) => return Ok((false, answers)),
                Err(error) => return Err(error.into()),
            };
            let said = SaidWords::from(finished.completion);
            if leads {
                take(finished.group, Ok(said.text.clone()))?;
            }
            let prompt = prompts.remove(&finished.group).unwrap_or_default();
            answers.push(PolicyAnswer {
                at: finished.group,
                prompt: prompt.to_string(),
                said: Ok(said),
            });
        }
        match self.engine.rest_unless(&|| interrupt.expired()) {
            Ok(()) => Ok((true, answers)),
            Err(RolloutError::Stopped) => Ok((false, answers)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Answerer for PolicyAnswerer<'_> {
    fn answer(
        &mut self,
        questions: &[EvalQuestion],
        take: &mut TakeAnswer,
    ) -> Result<(), TrainError> {
        let (ranks, _) = self.world;
        let (whole, own) = self.own(questions, take)?;
        self.dropped = ranks.any(!whole)?;
        if self.dropped {
            return Ok(());
        }
        self.answers = own;
        if ranks.size() > 1 {
            let wrong = |error: serde_json::Error| TrainError::Other(format!("answers: {error}"));
            let bytes = serde_json::to_vec(&self.answers).map_err(wrong)?;
            // Its own come back first.
            let parts = ranks.gather_to_leader(&bytes)?;
            for part in parts.iter().skip(1) {
                let part: Vec<PolicyAnswer> = serde_json::from_slice(part).map_err(wrong)?;
                for answer in part {
                    let said = answer.said.clone().map(|said| said.text);
                    take(answer.at, said)?;
                    self.answers.push(answer);
                }
            }
        }
        self.answers.sort_by_key(|answer| answer.at);
        Ok(())
    }
}
