//! What flows from the data to the learner: prompts, completions and their groups.

use std::sync::Arc;

use models::image::PromptImages;
use rewards::Reference;

/// A prompt ready for sampling.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The row's id, unique within a step.
    pub id: String,
    /// The task whose rubric scores its completions.
    pub task: String,
    /// The text as the policy sees it; `None` for rows of token ids without a tokenizer.
    pub text: Option<Arc<str>>,
    /// The user's words alone, which rewards are given: the row's own prompt, without template and chat template.
    pub asked: Arc<str>,
    /// Its token ids.
    pub ids: Arc<[i64]>,
    /// Its pictures, in their places among the ids.
    pub shown: Option<Arc<PromptImages>>,
    /// What its completions are compared with.
    pub reference: Arc<Reference>,
    /// The number of this draw in the run: it keys the random numbers of its completions.
    pub draw: u64,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or stop string.
    Stop,
    /// The maximum length.
    Length,
}

/// One sampled completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Token ids, the stop token that ended it included.
    pub ids: Vec<i64>,
    /// Per token: natural log of its probability under temperature alone, full vocabulary.
    pub logprobs: Vec<f32>,
    /// Per token: the same under the distribution it was drawn from (after top-k, top-p, min-p).
    pub drawn_logprobs: Vec<f32>,
    /// The text without the stop token; `None` without a tokenizer.
    pub text: Option<String>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// A prompt with its sibling completions.
#[derive(Debug, Clone)]
pub struct Group {
    /// The prompt.
    pub prompt: Prompt,
    /// Its completions.
    pub completions: Vec<Completion>,
    /// Version of the policy that wrote them.
    pub policy_version: u64,
}
