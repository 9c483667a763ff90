//! Rows that are conversations: ShareGPT's `conversations` of `from`
//! and `value` (SAgoge, SArena), `messages` of `role` and `content` (IntroSVG, TRL), and preference pairs
//! (`conversations`, `messages` or `prompt`, with `chosen` and `rejected`). The last question is the
//! example's, with its answer as the target; what was said before is its history.
//!
//! SArena's questions have no answer in the row: the reference is `svg/<id>.svg`, else
//! `images/<id>.png`, beside the file. Videos are refused.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde_json::Value;

use super::super::container::{Record, kind};
use super::builder::{
    ExampleBuilder, RowContext, id, images, instruction, optional_text, place_pictures,
    reference_of, stem,
};
use super::turns::{CHAT, Heard, Naming, SHAREGPT, Spoken, hear};
use crate::data::example::{Example, Talk, Turn};
use crate::data::source::ABSENT;

/// Keys of a row that are read besides pictures and its lists of turns.
pub(super) const KEYS: [&str; 4] = ["id", "system", "tools", "chat_template_kwargs"];
/// Lists of turns by the layouts' names.
pub(super) const CONVERSATIONS: &str = "conversations";
pub(super) const MESSAGES: &str = "messages";
/// Further keys of preference pairs.
pub(super) const PAIR: [&str; 3] = ["prompt", "chosen", "rejected"];

/// What rows that `svgrl data pairs` made hold for people, and why one has no pair.
pub(super) const MADE: [&str; 7] = [
    "task",
    "draw",
    "margin",
    DROPPED,
    "candidates",
    "chosen_index",
    "rejected_index",
];
/// Why candidates gave no pair.
const DROPPED: &str = "dropped";

pub(super) fn sharegpt(record: &Record, context: &RowContext) -> Result<Example, String> {
    let list = record.value.get(CONVERSATIONS).unwrap_or(&Value::Null);
    let heard = hear(record, list, (CONVERSATIONS, SHAREGPT), context.media)?;
    example(record, context, heard.spoken(CONVERSATIONS)?)
}

pub(super) fn messages(record: &Record, context: &RowContext) -> Result<Example, String> {
    let list = record.value.get(MESSAGES).unwrap_or(&Value::Null);
    let heard = hear(record, list, (MESSAGES, CHAT), context.media)?;
    example(record, context, heard.spoken(MESSAGES)?)
}

pub(super) fn dpo(record: &Record, context: &RowContext) -> Result<Example, String> {
    if let Some(why) = record.value.get(DROPPED).and_then(Value::as_str) {
        return Err(format!("{ABSENT}its candidates gave no pair ({why})"));
    }
    let mut spoken = question_of_pair(record, context)?;
    if spoken.answer.is_some() {
        return Err(
            "the answers of a pair stand in chosen and rejected, not in its conversation".into(),
        );
    }
    let chosen = answer_of_pair(record, "chosen", context)?;
    let rejected = answer_of_pair(record, "rejected", context)?;
    spoken.answer = Some(chosen.words.unwrap_or_default());
    spoken.talk.answer = chosen.more;
    let mut example = example(record, context, spoken)?;
    example.rejected = rejected.more;
    let rejected = rejected.words.unwrap_or_default();
    example.fields.insert("rejected".to_owned(), rejected);
    Ok(example)
}

/// What a pair answers: its conversation, its prompt, or what both of its answers have before them.
fn question_of_pair(record: &Record, context: &RowContext) -> Result<Spoken, String> {
    let row = &record.value;
    let there = |key: &&str| row.get(*key).is_some_and(|value| !value.is_null());
    let found = [CONVERSATIONS, MESSAGES, "prompt"]
        .iter()
        .find(|key| there(key));
    match found {
        Some(key) => match &row[*key] {
            Value::String(question) if !question.trim().is_empty() => Ok(Spoken {
                talk: Talk {
                    whole_question: true,
                    ..Talk::default()
                },
                question: question.clone(),
                ..Spoken::default()
            }),
            list => {
                let naming = naming(list);
                hear(record, list, (key, naming), context.media)?.spoken(key)
            }
        },
        None => {
            let before = |key: &str| row.get(key)?.as_array()?.split_last().map(|(_, all)| all);
            let (chosen, rejected) = (before("chosen"), before("rejected"));
            let Some(shared) = chosen.filter(|shared| !shared.is_empty()) else {
                return Err(format!(
                    "key `{CONVERSATIONS}` is missing (or `messages`, or `prompt`)"
                ));
            };
            if rejected != Some(shared) {
                return Err(
                    "keys `chosen` and `rejected` begin with different conversations".into(),
                );
            }
            let list = Value::Array(shared.to_vec());
            hear(record, &list, ("chosen", naming(&list)), context.media)?.spoken("chosen")
        }
    }
}

/// How the turns of a list are named, by its first.
fn naming(list: &Value) -> Naming {
    match list.get(0).is_some_and(|turn| turn.get("role").is_some()) {
        true => CHAT,
        false => SHAREGPT,
    }
}

fn answer_of_pair(record: &Record, key: &str, context: &RowContext) -> Result<Turn, String> {
    let wrong = |problem: String| format!("key `{key}`: {problem}");
    let found = record.value.get(key).unwrap_or(&Value::Null);
    let words = match found {
        Value::Null => return Err(format!("key `{key}` is missing")),
        Value::String(words) if words.trim().is_empty() => {
            return Err(format!("key `{key}` is empty"));
        }
        Value::String(words) => Some(words.clone()),
        Value::Array(turns) => {
            let last = turns.last().cloned().unwrap_or_default();
            let list = Value::Array(vec![last]);
            return hear_answer(record, &list, (key, naming(&list)), context);
        }
        turn => match (optional_text(turn, "value"), optional_text(turn, "content")) {
            (Ok(Some(words)), _) | (_, Ok(Some(words))) => Some(words.to_owned()),
            (Err(problem), _) => return Err(wrong(problem)),
            _ => return Err(wrong("key `value` is missing".into())),
        },
    };
    Ok(Turn {
        role: "assistant".to_owned(),
        words,
        ..Turn::default()
    })
}

/// A list of one answer.
pub(super) fn hear_answer(
    record: &Record,
    list: &Value,
    (key, naming): (&str, Naming),
    context: &RowContext,
) -> Result<Turn, String> {
    let turns = list.as_array().map(Vec::as_slice).unwrap_or_default();
    // An answer alone speaks in turn once something was asked.
    let asked = serde_json::json!({(naming.who): "user", (naming.what): "?"});
    let with_question = Value::Array([&[asked], turns].concat());
    let heard: Heard = hear(record, &with_question, (key, naming), context.media)?;
    heard.without_question().only_answer(key)
}

/// What a row's own variables of chat templates are.
pub(super) fn variables(row: &Value) -> Result<IndexMap<String, Value>, String> {
    let mut found = IndexMap::new();
    let tools = match row.get("tools") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(
            serde_json::from_str(text)
                .map_err(|error| format!("key `tools` must be a list in JSON: {error}"))?,
        ),
        Some(list) => Some(list.clone()),
    };
    match tools {
        None => {}
        Some(Value::Array(tools)) if tools.is_empty() => {}
        Some(Value::Array(tools)) => drop(found.insert("tools".to_owned(), Value::Array(tools))),
        Some(other) => return Err(format!("key `tools` must be a list, is {}", kind(&other))),
    }
    match row.get("chat_template_kwargs") {
        None | Some(Value::Null) => {}
        Some(Value::Object(named)) => {
            let there = named.iter().filter(|(_, value)| !value.is_null());
            found.extend(there.map(|(name, value)| (name.clone(), value.clone())));
        }
        Some(other) => {
            return Err(format!(
                "key `chat_template_kwargs` must be an object, is {}",
                kind(other)
            ));
        }
    }
    Ok(found)
}

fn example(record: &Record, context: &RowContext, spoken: Spoken) -> Result<Example, String> {
    let row = &record.value;
    let shown = images(record, context.media)?;
    if !shown.is_empty() && !spoken.images.is_empty() {
        return Err("pictures stand both in the turns and under `images`: which are shown?".into());
    }
    let images = [shown, spoken.images].concat();
    let mut talk = spoken.talk;
    talk.variables = variables(row)?;
    if let Some(system) = optional_text(row, "system")? {
        match &talk.system {
            Some(said) if said != system => {
                return Err(
                    "key `system` and the first turn say different things to the policy".into(),
                );
            }
            _ => talk.system = Some(system.to_owned()),
        }
    }
    if !record.without_bytes {
        place_pictures(&mut talk, &spoken.question, images.len())?;
    }
    let pictured = images.first().and_then(|image| match image {
        ImageSource::Path(path) => Some(stem(path)),
        ImageSource::Png(_) => None,
    });
    let id = id(row)
        .or(pictured)
        .unwrap_or_else(|| context.default_id.clone());
    let reference = match spoken.answer.as_deref() {
        Some("") => Reference::default(),
        Some(answer) => reference_of(answer, &spoken.question),
        None => beside(&id, &spoken.question, context)?,
    };
    let built = ExampleBuilder {
        talk,
        id,
        fields: IndexMap::from([("prompt".to_owned(), spoken.question)]),
        images,
        target: spoken.answer.or_else(|| reference.svg.clone()),
        reference,
    };
    Ok(built.finish())
}

/// What SArena keeps beside its questions.
fn beside(id: &str, question: &str, context: &RowContext) -> Result<Reference, String> {
    let svg = context.media.join("svg").join(format!("{id}.svg"));
    let image = context.media.join("images").join(format!("{id}.png"));
    let text = Some(instruction(question).to_owned());
    if svg.is_file() {
        let source =
            std::fs::read_to_string(&svg).map_err(|error| format!("{}: {error}", svg.display()))?;
        return Ok(Reference {
            svg: Some(source),
            text,
            ..Default::default()
        });
    }
    Ok(Reference {
        svg: None,
        image: image.is_file().then_some(ImageSource::Path(image)),
        text,
        draft: None,
    })
}
