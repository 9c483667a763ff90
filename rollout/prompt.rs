//! From an example to the text that the policy continues: a task's templates, then the
//! chat template where the policy has one.
//!
//! Which template a draw gets depends on the seed and the draw's number alone. Tokens and
//! images are made from the text later.

use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::shuffle::Stream;
use crate::data::{Draw, Example};
use crate::template::{ChatTemplate, TemplateError};

pub use crate::message::{Content, Message, PICTURE};

/// How a task asks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptConfig {
    /// The user's turn; `{prompt}`, `{draft}` and the other fields of an example are filled in, and
    /// `{image}` is the place of the next picture (pictures without a place go before the words);
    /// `{{` and `}}` stand for braces. Of several templates each draw takes one, by the seed.
    /// `{prompt}` alone when empty.
    pub templates: Vec<String>,
    /// Whether a row that is a whole question is asked as it stands instead.
    pub spare_whole_questions: bool,
    /// The system's turn, without placeholders; none when absent. Needs a chat template.
    pub system: Option<String>,
    /// Whether the text goes through the policy's chat template.
    pub chat: ChatUse,
    /// Text that the assistant's turn begins with, such as `<think>`; it belongs to the prompt
    /// and is not trained on.
    pub prefill: Option<String>,
}

/// Use of the policy's chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatUse {
    /// Where the policy's folder has one.
    #[default]
    Auto,
    /// Always; a folder without one is refused.
    Always,
    /// Never: the filled-in template is the whole prompt.
    Never,
}

/// How a policy is shown where the pictures of a prompt are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pictures {
    /// The policy reads text only.
    #[default]
    Unseen,
    /// Its chat template writes the placeholders.
    Template,
    /// This text stands for a picture.
    Text(&'static str),
}

/// Prompts that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// A config value that does not work out.
    #[error("{key}: {problem}")]
    Config {
        /// Key, relative to the task.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// An example that lacks a field its template names.
    #[error("example {example}: templates.{template} needs `{{{field}}}`, the row has {known:?}")]
    Field {
        /// Id of the example.
        example: String,
        /// Number of the template.
        template: usize,
        /// The missing field.
        field: String,
        /// The fields that the row has.
        known: Vec<String>,
    },
    /// Pictures that do not fit the prompt.
    #[error("example {example}: {problem}")]
    Pictures {
        /// Id of the example.
        example: String,
        /// What does not fit.
        problem: String,
    },
    /// A conversation that the prompt cannot hold.
    #[error("example {example}: {problem}")]
    Turns {
        /// Id of the example.
        example: String,
        /// Why not.
        problem: String,
    },
    /// The chat template.
    #[error(transparent)]
    Chat(#[from] TemplateError),
}

/// A task's checked templates, bound to a policy's chat template.
#[derive(Debug)]
pub struct Prompter {
    templates: Vec<Vec<Piece>>,
    spare_whole_questions: bool,
    system: Option<String>,
    prefill: String,
    chat: Option<Arc<ChatTemplate>>,
    pictures: Pictures,
    seed: u64,
}

/// Part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

impl Prompter {
    /// Checks the templates. `chat` is the policy's chat template if it has one; `seed`
    /// chooses among several templates.
    ///
    /// # Errors
    /// A malformed template, a system turn or `chat: always` without a chat template.
    pub fn new(
        config: &PromptConfig,
        chat: Option<&Arc<ChatTemplate>>,
        seed: u64,
    ) -> Result<Self, PromptError> {
        let error = |key: &str, problem: &str| PromptError::Config {
            key: key.to_owned(),
            problem: problem.to_owned(),
        };
        let chat = match (config.chat, chat) {
            (ChatUse::Never, _) => None,
            (ChatUse::Always, None) => {
                return Err(error(
                    "chat",
                    "`always`, but the model folder has no chat template \
                     (chat_template.jinja or tokenizer_config.json)",
                ));
            }
            (ChatUse::Auto | ChatUse::Always, chat) => chat,
        };
        if config.system.is_some() && chat.is_none() {
            return Err(error(
                "system",
                "a system turn needs a chat template, and none is in use \
                 (put the sentence into `templates` instead)",
            ));
        }
        let mut templates = Vec::new();
        for (index, text) in config.templates.iter().enumerate() {
            let pieces =
                parse(text).map_err(|problem| error(&format!("templates.{index}"), &problem))?;
            templates.push(pieces);
        }
        if templates.is_empty() {
            templates.push(vec![Piece::Field("prompt".to_owned())]);
        }
        Ok(Self {
            templates,
            spare_whole_questions: config.spare_whole_questions,
            system: config.system.clone(),
            prefill: config.prefill.clone().unwrap_or_default(),
            chat: chat.cloned(),
            pictures: Pictures::default(),
            seed,
        })
    }

    /// Sets what stands for a picture where no chat template writes it; `by_template` says whether
    /// a chat template, where one is in use, does.
    #[must_use]
    pub fn with_pictures(mut self, text: &'static str, by_template: bool) -> Self {
        self.pictures = match self.chat.is_some() && by_template {
            true => Pictures::Template,
            false => Pictures::Text(text),
        };
        self
    }

    /// The text that the policy continues for a draw. Special tokens stand in it as text.
    ///
    /// # Errors
    /// A field that the row lacks, or messages that the chat template refuses.
    pub fn text(&self, draw: &Draw) -> Result<String, PromptError> {
        let mut text = match &self.chat {
            None => self.user_turns(draw)?.concat(),
            Some(chat) => chat.render(&self.messages(draw)?, true, &IndexMap::new())?,
        };
        text.push_str(&self.prefill);
        Ok(text)
    }

    /// The user's words alone: the row's own prompt; where it has none, its last turn as the template has it. Places of
    /// pictures that stand before and behind them are none.
    ///
    /// # Errors
    /// A field that the row lacks.
    pub fn asked(&self, draw: &Draw) -> Result<String, PromptError> {
        let own = draw.example.fields.get("prompt");
        let words = own.map_or_else(|| self.question(draw), |own| Ok(own.clone()))?;
        if draw.example.images.is_empty() {
            return Ok(words);
        }
        let mut bare = words.trim();
        while let Some(rest) = bare.strip_prefix(PICTURE).or(bare.strip_suffix(PICTURE)) {
            bare = rest.trim();
        }
        Ok(bare.to_owned())
    }

    /// The turns before the assistant's, for engines that apply chat templates themselves.
    ///
    /// # Errors
    /// A field that the row lacks.
    pub fn messages(&self, draw: &Draw) -> Result<Vec<Message>, PromptError> {
        let turn = |role: &str, content: Content| Message {
            role: role.to_owned(),
            content,
        };
        let mut messages = Vec::with_capacity(2);
        // The config's word goes before the row's own.
        let of_row = || draw.example.fields.get("system");
        if let Some(system) = self.system.as_ref().or_else(of_row) {
            messages.push(turn("system", Content::Text(system.clone())));
        }
        let shows = |words: &str| !draw.example.images.is_empty() && words.contains(PICTURE);
        let user = |words: String| match (self.pictures, shows(&words)) {
            (Pictures::Template, true) => turn("user", Content::with_pictures(&words)),
            _ => turn("user", Content::Text(words)),
        };
        let mut words = self.user_turns(draw)?;
        let last = words.pop().unwrap_or_default();
        for (question, exchange) in words.into_iter().zip(&draw.example.history) {
            messages.push(user(question));
            let answer = Content::Text(exchange.answer.clone());
            messages.push(turn("assistant", answer));
        }
        messages.push(user(last));
        Ok(messages)
    }

    /// The user's words, turn by turn, each with a place for each of its pictures.
    fn user_turns(&self, draw: &Draw) -> Result<Vec<String>, PromptError> {
        let history = &draw.example.history;
        if self.chat.is_none() && !history.is_empty() {
            return Err(PromptError::Turns {
                example: draw.example.id.clone(),
                problem:
                    "a conversation of several turns needs a chat template, and none is in use"
                        .into(),
            });
        }
        let mut words: Vec<String> = history.iter().map(|of| of.question.clone()).collect();
        words.push(self.question(draw)?);
        self.placed(&mut words, draw)?;
        Ok(words)
    }

    /// The last question: the row's own, or a template with the row's fields.
    fn question(&self, draw: &Draw) -> Result<String, PromptError> {
        let example = &draw.example;
        if let Some(question) = example.fields.get("prompt")
            && self.spare_whole_questions
            && example.whole_question
        {
            return Ok(question.clone());
        }
        let index = match self.templates.len() {
            1 => 0,
            several => Stream::new(&[self.seed, draw.draw]).below(several),
        };
        fill(&self.templates[index], example).map_err(|field| PromptError::Field {
            example: example.id.clone(),
            template: index,
            field,
            known: example.fields.keys().cloned().collect(),
        })
    }

    /// Gives each picture a place in the turns: where they say so, else before the first words.
    fn placed(&self, words: &mut [String], draw: &Draw) -> Result<(), PromptError> {
        let count = draw.example.images.len();
        if count == 0 {
            return Ok(());
        }
        let wrong = |problem: String| PromptError::Pictures {
            example: draw.example.id.clone(),
            problem,
        };
        let places: usize = words.iter().map(|of| of.matches(PICTURE).count()).sum();
        match (places, words.first_mut()) {
            (0, Some(first)) => first.insert_str(0, &PICTURE.repeat(count)),
            _ if places == count => {}
            _ => {
                return Err(wrong(format!(
                    "{count} picture(s) for {places} place(s) {PICTURE} in the prompt"
                )));
            }
        }
        match self.pictures {
            Pictures::Unseen => {
                return Err(wrong(
                    "it shows pictures, and this policy reads text only".into(),
                ));
            }
            Pictures::Template => {}
            Pictures::Text(text) => {
                for words in words {
                    *words = words.replace(PICTURE, text);
                }
            }
        }
        Ok(())
    }
}

/// The template with the example's fields, or the field that is missing.
fn fill(pieces: &[Piece], example: &Example) -> Result<String, String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Field(name) if name == "image" => text.push_str(PICTURE),
            Piece::Field(name) => {
                text.push_str(example.fields.get(name).ok_or_else(|| name.clone())?);
            }
        }
    }
    Ok(text)
}

/// Splits a template at its placeholders.
fn parse(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => {
                chars.next();
                text.push(c);
            }
            '{' => {
                let mut closed = false;
                let within = chars.by_ref().take_while(|c| {
                    closed = *c == '}';
                    !closed
                });
                let name: String = within.collect();
                let plain = |c: char| c.is_alphanumeric() || c == '_';
                if !closed || name.is_empty() || !name.chars().all(plain) {
                    return Err(format!(
                        "`{{{name}` is no placeholder; write `{{{{` for a brace"
                    ));
                }
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Field(name));
            }
            '}' => return Err("a single `}`; write `}}` for a brace".to_owned()),
            c => text.push(c),
        }
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

#[cfg(test)]
mod tests;
