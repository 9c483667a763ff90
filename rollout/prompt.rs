//! From an example to the text that the policy continues: a task's templates, then the
//! chat template where the policy has one.
//!
//! Which template a draw gets depends on the seed and the draw's number alone. Tokens and
//! images are made from the text later.

mod asked;
mod inserts;
mod renders;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::shuffle::Stream;
use crate::data::{Draw, Example, Turn};
use crate::message::PicturedWords;
use crate::template::{ChatTemplate, TemplateError};
use inserts::Inserts;

pub use renders::check_rendered;

pub use crate::message::{Content, Message, PICTURE};

/// How a task asks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptConfig {
    /// The user's turn; `{prompt}`, `{draft}` and the other fields of an example are filled in, and
    /// `{image}` is the place of the next picture (pictures without a place go before the words), as `<image>` is in
    /// a template and in the words of a row, drawings apart;
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pictures {
    /// The policy reads text only.
    #[default]
    Unseen,
    /// Its chat template writes the placeholders.
    Template,
    /// This text stands for a picture.
    Text(String),
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
    /// What the chat template leaves out.
    #[error("example {example}: {problem}")]
    Lost {
        /// Id of the example.
        example: String,
        /// What it is, and where.
        problem: String,
    },
    /// The chat template.
    #[error(transparent)]
    Chat(#[from] TemplateError),
}

/// A task's checked templates, bound to a policy's chat template.
#[derive(Debug)]
pub struct Prompter {
    templates: Vec<Inserts>,
    spare_whole_questions: bool,
    system: Option<String>,
    prefill: String,
    chat: Option<Arc<ChatTemplate>>,
    pictures: Pictures,
    seed: u64,
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
        Ok(Self {
            templates: templates(config)?,
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
    pub fn with_pictures(mut self, text: &str, by_template: bool) -> Self {
        self.pictures = match self.chat.is_some() && by_template {
            true => Pictures::Template,
            false => Pictures::Text(text.to_owned()),
        };
        self
    }

    /// The text that the policy continues for a draw. Special tokens stand in it as text.
    ///
    /// # Errors
    /// A field that the row lacks, or messages that the chat template refuses.
    pub fn text(&self, draw: &Draw) -> Result<String, PromptError> {
        let mut text = match &self.chat {
            None => self.alone(draw)?,
            Some(chat) => {
                let (messages, variables) = (self.messages(draw)?, &draw.example.talk.variables);
                let text = chat.render(&messages, true, variables)?;
                check_rendered(chat, &messages, variables, &text).map_err(lost(draw))?;
                text
            }
        };
        text.push_str(&self.prefill);
        Ok(text)
    }

    /// The text of the answer where it is more than words (reasoning, calls of tools), as the chat template
    /// renders it behind the prompt; `None` for an answer in words.
    ///
    /// # Errors
    /// As [`Self::text`]; a template that puts the answer otherwise than behind the prompt.
    pub fn answer(&self, draw: &Draw) -> Result<Option<String>, PromptError> {
        let talk = &draw.example.talk;
        let Some(chat) = self.chat.as_ref().filter(|_| !talk.answer.is_empty()) else {
            return Ok(None);
        };
        let mut messages = self.messages(draw)?;
        let prompt = chat.render(&messages, true, &talk.variables)?;
        messages.push(Message {
            role: "assistant".to_owned(),
            content: match draw.example.target.as_deref() {
                None | Some("") => Content::Absent,
                Some(words) => Content::Text(words.to_owned()),
            },
            more: talk.answer.clone(),
        });
        let whole = chat.render(&messages, false, &talk.variables)?;
        check_rendered(chat, &messages, &talk.variables, &whole).map_err(lost(draw))?;
        let answer = whole
            .strip_prefix(&prompt)
            .ok_or_else(|| PromptError::Lost {
                example: draw.example.id.clone(),
                problem: format!(
                    "the chat template does not put an answer with {} behind the prompt",
                    talk.answer.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            })?;
        let answer = answer.strip_prefix(&self.prefill).unwrap_or(answer);
        Ok(Some(answer.to_owned()))
    }

    /// The turns before the assistant's, for engines that apply chat templates themselves.
    ///
    /// # Errors
    /// A field that the row lacks.
    pub fn messages(&self, draw: &Draw) -> Result<Vec<Message>, PromptError> {
        let talk = &draw.example.talk;
        let mut messages = Vec::with_capacity(2);
        // The config's word goes before the row's own.
        if let Some(system) = self.system.as_ref().or(talk.system.as_ref()) {
            messages.push(Message {
                role: "system".to_owned(),
                content: Content::Text(system.clone()),
                ..Message::default()
            });
        }
        let mut words = self.turns(draw)?.into_iter();
        let mut next = |turn: &Turn| Message {
            role: turn.role.clone(),
            content: words
                .next()
                .flatten()
                .map_or(Content::Absent, |words| self.content(&words)),
            more: turn.more.clone(),
        };
        messages.extend(talk.history.iter().map(&mut next));
        messages.push(next(&Turn {
            role: "user".to_owned(),
            ..Turn::default()
        }));
        messages.extend(talk.since.iter().map(&mut next));
        Ok(messages)
    }

    /// A row's prompt where no chat template is in use: a single question.
    fn alone(&self, draw: &Draw) -> Result<String, PromptError> {
        let talk = &draw.example.talk;
        let wrong = |what: &str| PromptError::Turns {
            example: draw.example.id.clone(),
            problem: format!("{what} needs a chat template, and none is in use"),
        };
        if !talk.history.is_empty() || !talk.since.is_empty() {
            return Err(wrong("a conversation of several turns"));
        }
        if talk.system.is_some() {
            return Err(wrong("a system turn"));
        }
        if let Some(key) = talk.variables.keys().next() {
            return Err(wrong(&format!("`{key}`")));
        }
        let words = self.turns(draw)?.pop().flatten().unwrap_or_default();
        Ok(self.in_words(&words))
    }

    /// The words of every turn before the answer, each with a place for each of its pictures.
    fn turns(&self, draw: &Draw) -> Result<Vec<Option<PicturedWords>>, PromptError> {
        let talk = &draw.example.talk;
        let said = |turn: &Turn| {
            let words = turn.words.as_ref()?;
            Some(match turn.shows_pictures() {
                true => PicturedWords::of(words),
                false => {
                    let mut plain = PicturedWords::new();
                    plain.push_text(words);
                    plain
                }
            })
        };
        let mut words: Vec<Option<PicturedWords>> = talk.history.iter().map(said).collect();
        let last = words.len();
        words.push(Some(self.question(draw)?));
        words.extend(talk.since.iter().map(said));
        self.place(&mut words, last, draw)?;
        Ok(words)
    }

    /// The last question: the row's own, or a template with the row's fields.
    fn question(&self, draw: &Draw) -> Result<PicturedWords, PromptError> {
        let example = &draw.example;
        if let Some(question) = whole_question(example, self.spare_whole_questions) {
            return Ok(PicturedWords::of(question));
        }
        let index = match self.templates.len() {
            1 => 0,
            several => Stream::new(&[self.seed, draw.draw]).below(several),
        };
        self.templates[index]
            .fill(&example.fields)
            .map_err(|field| PromptError::Field {
                example: example.id.clone(),
                template: index,
                field,
                known: example.fields.keys().cloned().collect(),
            })
    }

    /// Gives each picture a place in the turns: where they say so, else before the first words of a user;
    /// `asked` is the turn of the last question.
    fn place(
        &self,
        words: &mut [Option<PicturedWords>],
        asked: usize,
        draw: &Draw,
    ) -> Result<(), PromptError> {
        let count = draw.example.images.len();
        let wrong = |problem: String| PromptError::Pictures {
            example: draw.example.id.clone(),
            problem,
        };
        let places: usize = words.iter().flatten().map(PicturedWords::pictures).sum();
        if count == 0 && places == 0 {
            return Ok(());
        }
        if places == 0 {
            let history = &draw.example.talk.history;
            let first = history.iter().position(|turn| turn.role == "user");
            if let Some(words) = &mut words[first.unwrap_or(asked)] {
                words.lead_with(count);
            }
        } else if places != count {
            return Err(wrong(format!(
                "{count} picture(s) for {places} place(s) {PICTURE} in the prompt"
            )));
        }
        match self.pictures {
            Pictures::Unseen => Err(wrong(
                "it shows pictures, and this policy reads text only".into(),
            )),
            Pictures::Template | Pictures::Text(_) => Ok(()),
        }
    }

    /// Words as the chat template takes them.
    fn content(&self, words: &PicturedWords) -> Content {
        match &self.pictures {
            Pictures::Template => words.parts(),
            _ => Content::Text(self.in_words(words)),
        }
    }

    fn in_words(&self, words: &PicturedWords) -> String {
        match &self.pictures {
            Pictures::Text(text) => words.with(text),
            _ => words.with(PICTURE),
        }
    }
}

/// Puts a row's name before what a chat template makes of it.
fn lost(draw: &Draw) -> impl FnOnce(String) -> PromptError {
    let example = draw.example.id.clone();
    move |problem| PromptError::Lost { example, problem }
}

/// The templates of a task, parsed.
fn templates(config: &PromptConfig) -> Result<Vec<Inserts>, PromptError> {
    let parsed = config.templates.iter().enumerate().map(|(index, text)| {
        Inserts::parse(text).map_err(|problem| PromptError::Config {
            key: format!("templates.{index}"),
            problem,
        })
    });
    let mut templates: Vec<Inserts> = parsed.collect::<Result<_, _>>()?;
    if templates.is_empty() {
        templates.push(Inserts::of("prompt"));
    }
    Ok(templates)
}

/// A row's question where it is asked as it stands.
fn whole_question(example: &Example, spared: bool) -> Option<&str> {
    let asked = spared && example.talk.whole_question;
    example
        .fields
        .get("prompt")
        .filter(|_| asked)
        .map(String::as_str)
}

/// What a task's templates ask of a row, before there is a policy to ask.
#[derive(Debug)]
pub struct RowDemands {
    templates: Vec<Inserts>,
    spare_whole_questions: bool,
}

impl RowDemands {
    /// Of a task's templates.
    ///
    /// # Errors
    /// A malformed template.
    pub fn new(config: &PromptConfig) -> Result<Self, PromptError> {
        Ok(Self {
            templates: templates(config)?,
            spare_whole_questions: config.spare_whole_questions,
        })
    }

    /// The names that the templates insert.
    pub fn inserted(&self) -> Vec<String> {
        let names = self.templates.iter().flat_map(Inserts::names);
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What is wrong with a row: a name that some template inserts is not in it, or its pictures are not as many as
    /// the words have places.
    ///
    /// # Errors
    /// Of the first template that cannot be filled.
    pub fn check(&self, example: &Example) -> Result<(), String> {
        let pictures = example.images.len();
        let turns = example.talk.history.iter().chain(&example.talk.since);
        let before: usize = turns.map(Turn::pictures).sum();
        let fits = |words: &PicturedWords| match words.pictures() + before {
            0 => Ok(()),
            places if places == pictures => Ok(()),
            places => Err(format!(
                "{pictures} picture(s) for {places} place(s) {PICTURE} in the prompt"
            )),
        };
        if let Some(question) = whole_question(example, self.spare_whole_questions) {
            return fits(&PicturedWords::of(question));
        }
        for (index, template) in self.templates.iter().enumerate() {
            let words = template.fill(&example.fields).map_err(|field| {
                let known: Vec<&String> = example.fields.keys().collect();
                format!("templates.{index} needs `{{{field}}}`, the row has {known:?}")
            })?;
            fits(&words).map_err(|problem| format!("templates.{index}: {problem}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
