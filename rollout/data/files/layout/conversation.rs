//! Rows that are conversations: ShareGPT's `conversations` of `from`
//! and `value` (SAgoge, SArena), `messages` of `role` and `content` (IntroSVG), and preference pairs
//! (`conversations`, `chosen`, `rejected`). User and assistant take turns; the last question is the
//! example's, with its answer as the target, and what was said before is its history.
//!
//! SArena's questions have no answer in the row: the reference is `svg/<id>.svg`, else
//! `images/<id>.png`, beside the file. Videos and turns of tools are refused.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde_json::Value;

use super::super::container::{Record, kind};
use super::builder::{
    ExampleBuilder, RowContext, id, images, instruction, place_pictures, reference_of, stem, text,
};
use crate::data::example::{Example, Turn};

/// The last question, its answer if the row has it, and what was said before.
#[derive(Debug, Default)]
struct Conversation {
    system: Option<String>,
    history: Vec<Turn>,
    question: String,
    answer: Option<String>,
}

pub(super) fn sharegpt(record: &Record, context: &RowContext) -> Result<Example, String> {
    let heard = conversation(&record.value, "conversations", ["from", "value"])?;
    example(record, context, heard)
}

pub(super) fn messages(record: &Record, context: &RowContext) -> Result<Example, String> {
    let heard = conversation(&record.value, "messages", ["role", "content"])?;
    example(record, context, heard)
}

pub(super) fn dpo(record: &Record, context: &RowContext) -> Result<Example, String> {
    let row = &record.value;
    let said = |key: &str| {
        let turn = row
            .get(key)
            .ok_or_else(|| format!("key `{key}` is missing"))?;
        match turn {
            Value::String(said) => Ok(said.clone()),
            turn => text(turn, "value")
                .or_else(|_| text(turn, "content"))
                .map(str::to_owned)
                .map_err(|problem| format!("key `{key}`: {problem}")),
        }
    };
    let mut heard = conversation(row, "conversations", ["from", "value"])?;
    if heard.answer.is_some() {
        return Err(
            "key `conversations`: the answers of a pair stand in chosen and rejected".into(),
        );
    }
    heard.answer = Some(said("chosen")?);
    let rejected = said("rejected")?;
    let mut example = example(record, context, heard)?;
    example.fields.insert("rejected".to_owned(), rejected);
    Ok(example)
}

fn conversation(row: &Value, key: &str, names: [&str; 2]) -> Result<Conversation, String> {
    let turns = match row.get(key) {
        Some(Value::Array(turns)) => turns,
        Some(other) => return Err(format!("key `{key}` must be a list, is {}", kind(other))),
        None => return Err(format!("key `{key}` is missing")),
    };
    let mut heard = Conversation::default();
    for (at, turn) in turns.iter().enumerate() {
        let wrong = |problem: String| format!("key `{key}.{at}`: {problem}");
        let role = text(turn, names[0]).map_err(wrong)?;
        let said = text(turn, names[1]).map_err(wrong)?.to_owned();
        let asked = !heard.question.is_empty();
        match role {
            "system" if at == 0 => heard.system = Some(said),
            "human" | "user" if !asked => heard.question = said,
            "human" | "user" if heard.answer.is_some() => {
                let question = std::mem::replace(&mut heard.question, said);
                let answer = heard.answer.take().unwrap_or_default();
                heard.history.push(Turn { question, answer });
            }
            "gpt" | "assistant" | "model" if heard.answer.is_none() && asked => {
                heard.answer = Some(said);
            }
            "system" | "human" | "user" | "gpt" | "assistant" | "model" => {
                return Err(wrong(format!(
                    "`{role}` speaks out of turn: after a system's word, questions and answers alternate"
                )));
            }
            other => {
                return Err(wrong(format!(
                    "speaker `{other}` is not known (system, human, gpt; or user, assistant)"
                )));
            }
        }
    }
    match heard.question.is_empty() {
        true => Err(format!("key `{key}`: nobody asks")),
        false => Ok(heard),
    }
}

fn example(record: &Record, context: &RowContext, heard: Conversation) -> Result<Example, String> {
    let images = images(&record.value, context.media)?;
    let mut history = heard.history;
    place_pictures(&mut history, &heard.question, images.len())?;
    let pictured = images.first().and_then(|image| match image {
        ImageSource::Path(path) => Some(stem(path)),
        ImageSource::Png(_) => None,
    });
    let id = id(&record.value)
        .or(pictured)
        .unwrap_or_else(|| context.default_id.clone());
    let reference = match &heard.answer {
        Some(answer) => reference_of(answer, &heard.question),
        None => beside(&id, &heard.question, context)?,
    };
    let mut fields = IndexMap::from([("prompt".to_owned(), heard.question)]);
    fields.extend(heard.system.map(|system| ("system".to_owned(), system)));
    let built = ExampleBuilder {
        whole_question: true,
        history,
        id,
        fields,
        images,
        target: heard.answer.or_else(|| reference.svg.clone()),
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
