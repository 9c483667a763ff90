//! One row of a source, and one draw of it.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde_json::{Map, Value};

use crate::message::picture_places;

/// One row of a source, as every format delivers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// `<source>/<row id>`: unique within a catalog as far as the rows' own ids are.
    pub id: String,
    /// Name of the config's task that it belongs to.
    pub task: String,
    /// What prompt templates may insert, by placeholder name (`prompt`, `draft`, ...).
    pub fields: IndexMap<String, String>,
    /// What is said besides the field `prompt`, where the row is a conversation.
    pub talk: Talk,
    /// Pictures that the conversation shows, in the order of its placeholders.
    pub images: Vec<ImageSource>,
    /// What completions are scored against.
    pub reference: Reference,
    /// What supervised training imitates. A noisy teacher makes it differ from the reference.
    pub target: Option<String>,
    /// What the rejected answer of a pair holds besides its words, which are the field `rejected`.
    pub rejected: Map<String, Value>,
    /// Characters of the reference (its SVG, else its text, else the target): the
    /// curriculum's measure of difficulty.
    pub length: usize,
}

/// What a conversation holds besides its last question and the words of its last answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Talk {
    /// Whether the field `prompt` is a whole question, as published conversations are: it is asked as
    /// it stands unless the task has templates of its own.
    pub whole_question: bool,
    /// A system's first word, which may be empty on purpose.
    pub system: Option<String>,
    /// What was said before the question, after it.
    pub history: Vec<Turn>,
    /// What was said after it and before the answer: calls of tools, and what they gave.
    pub since: Vec<Turn>,
    /// What the answer holds besides words, for chat templates that render it: reasoning, calls of tools.
    pub answer: Map<String, Value>,
    /// The answer's weight in the loss of supervised training, > 0, where its row says one; else 1.
    pub answer_weight: Option<f64>,
    /// Further variables of chat templates: `tools`, `chat_template_kwargs`.
    pub variables: IndexMap<String, Value>,
}

/// A turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    /// `user`, `assistant`, `system`, `tool` or `developer`.
    pub role: String,
    /// What is said; none where an assistant calls tools alone.
    pub words: Option<String>,
    /// What it holds besides words.
    pub more: Map<String, Value>,
    /// The weight of an answer in the loss of supervised training, >= 0, where its row says one; 0: it is passed over.
    pub weight: Option<f64>,
}

impl Turn {
    /// Whether supervised training imitates it, as far as its row says.
    pub fn is_learnt(&self) -> bool {
        self.weight != Some(0.0)
    }

    /// Whether pictures may be shown in it.
    pub(crate) fn shows_pictures(&self) -> bool {
        matches!(self.role.as_str(), "user" | "tool")
    }

    /// How many pictures it shows.
    pub(crate) fn pictures(&self) -> usize {
        match &self.words {
            Some(words) if self.shows_pictures() => picture_places(words).len(),
            _ => 0,
        }
    }
}

impl Example {
    /// The same row with the answer that a pair rejects in the place of its target; `None` where it is no pair.
    pub fn rejected(&self) -> Option<Self> {
        let words = self.fields.get("rejected")?.clone();
        let mut rejected = self.clone();
        rejected.target = Some(words);
        rejected.talk.answer.clone_from(&self.rejected);
        Some(rejected)
    }

    /// The conversation up to each of its earlier answers, that answer being the target: what
    /// supervised training imitates besides the last one. Empty for a single question.
    pub fn earlier(&self) -> impl Iterator<Item = Self> {
        let asked = Turn {
            role: "user".to_owned(),
            words: self.fields.get("prompt").cloned(),
            ..Turn::default()
        };
        let talk = &self.talk;
        let turns: Vec<Turn> = [&talk.history[..], &[asked], &talk.since[..]].concat();
        let answers = turns.iter().enumerate().filter_map(|(at, answer)| {
            let learnt = answer.role == "assistant" && answer.is_learnt();
            let question = turns[..at].iter().rposition(|turn| turn.role == "user");
            question.filter(|_| learnt).map(|question| (question, at))
        });
        let split: Vec<(usize, usize)> = answers.collect();
        let of = move |(number, (question, at)): (usize, (usize, usize))| {
            let answer = &turns[at];
            let mut fields = self.fields.clone();
            let asked = turns[question].words.clone();
            fields.insert("prompt".to_owned(), asked.unwrap_or_default());
            let pictures: usize = turns[..at].iter().map(Turn::pictures).sum();
            Self {
                id: format!("{}@{}", self.id, number + 1),
                fields,
                talk: Talk {
                    // A question before the last one was never put into a template.
                    whole_question: question < self.talk.history.len() || self.talk.whole_question,
                    system: self.talk.system.clone(),
                    history: turns[..question].to_vec(),
                    since: turns[question + 1..at].to_vec(),
                    answer: answer.more.clone(),
                    answer_weight: answer.weight,
                    variables: self.talk.variables.clone(),
                },
                images: self.images.iter().take(pictures).cloned().collect(),
                target: Some(answer.words.clone().unwrap_or_default()),
                ..self.clone()
            }
        };
        split.into_iter().enumerate().map(of)
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
