//! What flows from the data to the learner: prompts, completions and their groups.

use std::sync::Arc;

use models::image::PromptImages;
use rewards::{ImageSource, Reference};
use serde::{Deserialize, Serialize};

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
    /// The same pictures as the row has them, for the record.
    pub images: Arc<[ImageSource]>,
    /// What its completions are compared with.
    pub reference: Arc<Reference>,
    /// The number of this draw in the run: it keys the random numbers of its completions.
    pub draw: u64,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or stop string.
    Stop,
    /// The maximum length.
    Length,
}

/// Tokens that the same weights wrote: those before `end` that no span before it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSpan {
    /// Version of the weights, as the engine was told at its last sync.
    pub version: u64,
    /// Where its tokens end within the completion.
    pub end: usize,
}

/// One sampled completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Token ids, the stop token that ended it included.
    pub ids: Vec<i64>,
    /// Per token: natural log of its probability under temperature alone, full vocabulary.
    pub logprobs: Vec<f32>,
    /// Per token: the same under the distribution it was drawn from (after top-k, top-p, min-p); servers elsewhere do not
    /// tell it, and `logprobs` stand here again.
    pub drawn_logprobs: Vec<f32>,
    /// The text without the stop token; `None` without a tokenizer.
    pub text: Option<String>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Which weights wrote it, in order: one span, or several where new weights came while it was written.
    pub spans: Vec<VersionSpan>,
}

impl Completion {
    /// Version of the weights that wrote its first token: the oldest of its versions.
    pub fn version(&self) -> u64 {
        self.spans.first().map_or(0, |span| span.version)
    }
}

/// A prompt with its sibling completions.
#[derive(Debug, Clone)]
pub struct Group {
    /// The prompt.
    pub prompt: Prompt,
    /// Its completions.
    pub completions: Vec<Completion>,
}
