//! Lists of turns as the layouts write them, made into one form: who speaks, in words with places for pictures,
//! what a turn holds besides, and whether an answer is learnt.
//!
//! A system speaks first or anywhere, questions and answers alternate, and tools answer the calls of an assistant.
//! Content is text or a list of parts. Which of it a policy's chat template renders is the prompt's business.

use std::path::Path;

use rewards::ImageSource;
use serde_json::{Map, Value, json};

use super::super::container::{Record, kind};
use super::pictures::pictures;
use crate::data::example::{Talk, Turn};
use crate::message::PICTURE;

/// Keys of a turn that chat templates may render.
const RENDERED: [&str; 6] = [
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_calls",
    "tool_call_id",
    "name",
];
/// Keys of an answer that say how much it is learnt.
const WEIGHTS: [&str; 4] = ["weight", "loss_weight", "loss", "train"];
/// Keys of a part that may hold its picture.
const SOURCES: [&str; 5] = ["image", "image_url", "url", "path", "bytes"];

/// A list of turns, heard to its end.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// A system's first word.
    pub(super) system: Option<String>,
    turns: Vec<Turn>,
    /// Pictures that stand in the content itself.
    pub(super) images: Vec<ImageSource>,
}

/// A conversation around its last question.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) talk: Talk,
    pub(super) question: String,
    /// The last answer, if there is one.
    pub(super) answer: Option<String>,
    /// Pictures that stand in the content itself.
    pub(super) images: Vec<ImageSource>,
}

/// How a list names who speaks and what is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Naming {
    pub(super) who: &'static str,
    pub(super) what: &'static str,
}

/// `from` and `value`.
pub(super) const SHAREGPT: Naming = Naming {
    who: "from",
    what: "value",
};
/// `role` and `content`.
pub(super) const CHAT: Naming = Naming {
    who: "role",
    what: "content",
};

impl Naming {
    /// The keys of a turn that nothing uses.
    pub(super) fn unused<'a>(&self, turn: &'a Value) -> impl Iterator<Item = &'a str> {
        let used = [self.who, self.what];
        let entries = turn.as_object().into_iter().flatten();
        entries.filter_map(move |(key, value)| {
            let known = [&used[..], &RENDERED, &WEIGHTS]
                .concat()
                .contains(&key.as_str());
            (!known && !value.is_null()).then_some(key.as_str())
        })
    }
}

/// The turns of the list under `key`.
pub(super) fn hear(
    record: &Record,
    list: &Value,
    (key, naming): (&str, Naming),
    media: &Path,
) -> Result<Heard, String> {
    let turned;
    let turns = match list {
        Value::Array(turns) => turns,
        Value::Object(columns) if !columns.is_empty() => {
            turned = rows_of(columns);
            turned.as_ref().ok_or_else(|| not_a_list(key, list))?
        }
        Value::Null => return Err(format!("key `{key}` is missing")),
        other => return Err(not_a_list(key, other)),
    };
    let mut heard = Heard::default();
    for (at, value) in turns.iter().enumerate() {
        let wrong = |problem: String| format!("key `{key}.{at}`: {problem}");
        let (turn, images) = turn(record, value, naming, media).map_err(wrong)?;
        heard.images.extend(images);
        if turn.role == "system" && at == 0 {
            heard.system = turn.words;
            continue;
        }
        let said = value
            .get(naming.who)
            .and_then(Value::as_str)
            .unwrap_or_default();
        heard.check_order(&turn, said).map_err(wrong)?;
        heard.turns.push(turn);
    }
    Ok(heard)
}

fn not_a_list(key: &str, value: &Value) -> String {
    format!("key `{key}` must be a list, is {}", kind(value))
}

/// A table of turns by their columns, as the `datasets` library keeps lists of objects: one list for each key.
fn rows_of(columns: &Map<String, Value>) -> Option<Vec<Value>> {
    let lists: Option<Vec<(&String, &Vec<Value>)>> = columns
        .iter()
        .map(|(name, list)| Some((name, list.as_array()?)))
        .collect();
    let lists = lists?;
    let length = lists.first()?.1.len();
    let whole = lists.iter().all(|(_, list)| list.len() == length);
    let row = |at: usize| {
        let cells = lists
            .iter()
            .map(|(name, list)| ((*name).clone(), list[at].clone()));
        Value::Object(cells.collect())
    };
    whole.then(|| (0..length).map(row).collect())
}

impl Heard {
    fn check_order(&self, turn: &Turn, said: &str) -> Result<(), String> {
        let system = |turn: &&Turn| matches!(turn.role.as_str(), "system" | "developer");
        let last = self.turns.iter().rev().find(|turn| !system(turn));
        let calls = last.is_some_and(|last| last.more.contains_key("tool_calls"));
        let last = last.map_or("", |last| last.role.as_str());
        let fits = match turn.role.as_str() {
            "user" => last.is_empty() || (last == "assistant" && !calls),
            "assistant" => matches!(last, "user" | "tool"),
            "tool" => last == "tool" || calls,
            _ => true,
        };
        match fits {
            true => Ok(()),
            false => Err(format!(
                "`{said}` speaks out of turn: besides a system's words, questions and answers alternate \
                 (tools speak after an answer that calls them)"
            )),
        }
    }

    /// The conversation around its last question; `key` names the list.
    pub(super) fn spoken(mut self, key: &str) -> Result<Spoken, String> {
        // What follows the last answer that is learnt changes nothing before it.
        let answers = || self.turns.iter().filter(|turn| turn.role == "assistant");
        if answers().next_back().is_some_and(|last| !last.is_learnt()) {
            let learnt = |turn: &Turn| turn.role == "assistant" && turn.is_learnt();
            let last = self.turns.iter().rposition(learnt).ok_or_else(|| {
                format!("key `{key}`: every answer has the weight 0: nothing is left to learn")
            })?;
            self.turns.truncate(last + 1);
        }
        let answer = self.turns.pop_if(|turn| turn.role == "assistant");
        let asked = self.turns.iter().rposition(|turn| turn.role == "user");
        let asked = asked.ok_or_else(|| format!("key `{key}`: nobody asks"))?;
        let since = self.turns.split_off(asked + 1);
        let question = self.turns.pop().and_then(|turn| turn.words);
        let mut spoken = Spoken {
            talk: Talk {
                whole_question: true,
                system: self.system,
                history: self.turns,
                since,
                ..Talk::default()
            },
            question: question.unwrap_or_default(),
            answer: None,
            images: self.images,
        };
        if let Some(answer) = answer {
            spoken.talk.answer = answer.more;
            spoken.talk.answer_weight = answer.weight;
            spoken.answer = Some(answer.words.unwrap_or_default());
        }
        Ok(spoken)
    }

    /// Without the question before it.
    pub(super) fn without_question(mut self) -> Self {
        self.turns.drain(..1.min(self.turns.len()));
        self
    }

    /// The one turn of a list that is an answer alone, as preference pairs and completions are written.
    pub(super) fn only_answer(mut self, key: &str) -> Result<Turn, String> {
        match (self.turns.pop(), self.turns.is_empty()) {
            (Some(turn), true) if turn.role == "assistant" => Ok(turn),
            _ => Err(format!("key `{key}` must be one answer of an assistant")),
        }
    }
}

/// One turn, with the pictures that stand in it.
fn turn(
    record: &Record,
    value: &Value,
    naming: Naming,
    media: &Path,
) -> Result<(Turn, Vec<ImageSource>), String> {
    let said = super::builder::text(value, naming.who)?;
    let role = match said {
        "human" | "user" => "user",
        "gpt" | "assistant" | "model" | "function_call" => "assistant",
        "tool" | "observation" | "function" | "ipython" => "tool",
        "system" | "developer" => said,
        other => {
            return Err(format!(
                "speaker `{other}` is not known (system, human, gpt, function_call, observation; or system, \
                 developer, user, assistant, tool)"
            ));
        }
    };
    let mut turn = Turn {
        role: role.to_owned(),
        weight: match role {
            "assistant" => loss_weight(value)?,
            _ => None,
        },
        ..Turn::default()
    };
    for key in RENDERED {
        match value.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(found) => drop(turn.more.insert(key.to_owned(), found.clone())),
        }
    }
    let mut images = Vec::new();
    let content = value.get(naming.what).unwrap_or(&Value::Null);
    turn.words = match content {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let parts = parts.iter().enumerate().map(|(at, part)| {
                words_of(record, part, &mut images, media)
                    .map_err(|problem| format!("key `{}.{at}`: {problem}", naming.what))
            });
            Some(parts.collect::<Result<_, _>>()?)
        }
        other => {
            return Err(format!(
                "key `{}` must be a string or a list of parts, is {}",
                naming.what,
                kind(other)
            ));
        }
    };
    if said == "function_call" {
        let call = turn.words.take().unwrap_or_default();
        let call: Value = serde_json::from_str(&call)
            .map_err(|error| format!("key `{}` must be a call in JSON: {error}", naming.what))?;
        let calls = match call {
            Value::Array(calls) => calls,
            one => vec![one],
        };
        let calls = calls
            .into_iter()
            .map(|call| json!({"type": "function", "function": call}));
        turn.more.insert("tool_calls".to_owned(), calls.collect());
    }
    if !images.is_empty() && !turn.shows_pictures() {
        return Err(format!(
            "`{said}` shows a picture: only users and tools may"
        ));
    }
    let blank = turn
        .words
        .as_ref()
        .is_none_or(|words| words.trim().is_empty());
    // A system may say nothing on purpose, and an answer may be its calls alone.
    let may_be_blank = matches!(role, "system" | "developer" | "tool") || !turn.more.is_empty();
    match &turn.words {
        None if !may_be_blank || role == "system" => {
            Err(format!("key `{}` is missing", naming.what))
        }
        Some(_) if blank && !may_be_blank => Err(format!("key `{}` is empty", naming.what)),
        _ => Ok((turn, images)),
    }
}

/// The weight that a row gives an answer: a number, or whether it is learnt.
fn loss_weight(turn: &Value) -> Result<Option<f64>, String> {
    for key in WEIGHTS {
        let weight = match turn.get(key) {
            None | Some(Value::Null) => continue,
            Some(Value::Bool(learnt)) => Some(f64::from(*learnt)),
            Some(other) => other.as_f64(),
        };
        return match weight {
            Some(weight) if weight >= 0.0 => Ok(Some(weight)),
            _ => Err(format!(
                "key `{key}` must be a number >= 0 (the answer's weight in the loss) or a boolean, is {}",
                turn[key]
            )),
        };
    }
    Ok(None)
}

/// The words of a part of a turn's content; a picture is its place, and goes to `images` where it is there.
fn words_of(
    record: &Record,
    part: &Value,
    images: &mut Vec<ImageSource>,
    media: &Path,
) -> Result<String, String> {
    if let Value::String(text) = part {
        return Ok(text.clone());
    }
    let kind_of = part.get("type").and_then(Value::as_str);
    match kind_of {
        Some("text" | "input_text" | "output_text") | None if part["text"].is_string() => {
            Ok(part["text"].as_str().unwrap_or_default().to_owned())
        }
        Some("image" | "image_url" | "input_image") => {
            let there = |key: &&str| part.get(*key).is_some_and(|value| !value.is_null());
            if let Some(key) = SOURCES.iter().find(|key| there(key)) {
                // Bytes and path may stand in the part itself, as in a column of pictures.
                let source = match *key {
                    "path" | "bytes" => part,
                    key => &part[key],
                };
                images.extend(pictures(record, source, (key, media))?);
            }
            Ok(PICTURE.to_owned())
        }
        Some(other) => Err(format!(
            "parts of the type `{other}` are not read (text, image)"
        )),
        None => Err("a part has a `type`: text or image".into()),
    }
}
