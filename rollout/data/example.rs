//! One row of a source, and one draw of it.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};

use crate::message::PICTURE;

/// One row of a source, as every format delivers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// `<source>/<row id>`: unique within a catalog as far as the rows' own ids are.
    pub id: String,
    /// Name of the config's task that it belongs to.
    pub task: String,
    /// What prompt templates may insert, by placeholder name (`prompt`, `draft`, ...).
    pub fields: IndexMap<String, String>,
    /// Whether the field `prompt` is a whole question, as published conversations are: it is asked as
    /// it stands unless the task has templates of its own.
    pub whole_question: bool,
    /// What was said before the field `prompt`, where the row is a conversation of several turns.
    pub history: Vec<Turn>,
    /// Pictures that the conversation shows, in the order of its placeholders.
    pub images: Vec<ImageSource>,
    /// What completions are scored against.
    pub reference: Reference,
    /// What supervised training imitates. A noisy teacher makes it differ from the reference.
    pub target: Option<String>,
    /// Characters of the reference (its SVG, else its text, else the target): the
    /// curriculum's measure of difficulty.
    pub length: usize,
}

/// A question of a conversation and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The user's words.
    pub question: String,
    /// The assistant's.
    pub answer: String,
}

impl Example {
    /// The conversation up to each of its earlier answers, that answer being the target: what
    /// supervised training imitates besides the last one. Empty for a single question.
    pub fn earlier(&self) -> impl Iterator<Item = Self> {
        self.history.iter().enumerate().map(|(at, exchange)| {
            let history = self.history[..at].to_vec();
            let mut fields = self.fields.clone();
            fields.insert("prompt".to_owned(), exchange.question.clone());
            let shown = history.iter().map(|before| before.question.as_str());
            let shown = shown.chain([exchange.question.as_str()]);
            let pictures: usize = shown.map(|words| words.matches(PICTURE).count()).sum();
            Self {
                id: format!("{}@{}", self.id, at + 1),
                fields,
                images: self.images.iter().take(pictures).cloned().collect(),
                target: Some(exchange.answer.clone()),
                history,
                ..self.clone()
            }
        })
    }
}

/// An example together with its place in a stage's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// What was drawn.
    pub example: Example,
    /// Number of this draw in the stage, from 0. It keys the sampler's random numbers.
    pub draw: u64,
    /// Bucket of reference length that the curriculum took it from, counted from 1; `None` where
    /// rows are not in buckets.
    pub bucket: Option<usize>,
}
