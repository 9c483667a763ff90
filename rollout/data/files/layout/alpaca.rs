//! Alpaca rows as SVG-Sophia publishes them: `instruction` (with `<image>` where a picture stands),
//! `input`, `output` with thoughts and a fenced SVG, `images`; and, where a row has them, `system` and
//! `history`, a list of pairs of an earlier instruction and its answer. The reference is the SVG in the
//! output.

use indexmap::IndexMap;

use super::super::container::{Record, kind};
use super::builder::{
    ExampleBuilder, RowContext, id, images, optional_text, place_pictures, reference_of, stem, text,
};
use crate::data::example::{Example, Talk, Turn};
use rewards::ImageSource;
use serde_json::Value;

/// Keys of a row that are read, pictures apart.
pub(super) const KEYS: [&str; 6] = ["id", "instruction", "input", "output", "system", "history"];

pub(super) fn example(record: &Record, context: &RowContext) -> Result<Example, String> {
    let row = &record.value;
    let mut question = text(row, "instruction")?.to_owned();
    if let Some(input) = optional_text(row, "input")? {
        question = format!("{question}\n{input}");
    }
    let answer = text(row, "output")?;
    let images = images(record, context.media)?;
    let mut talk = Talk {
        whole_question: true,
        system: optional_text(row, "system")?.map(str::to_owned),
        history: history(row)?,
        ..Talk::default()
    };
    if !record.without_bytes {
        place_pictures(&mut talk, &question, images.len())?;
    }
    // The published rows have no id; their pictures' names are what evaluations refer to.
    let pictured = images.first().and_then(|image| match image {
        ImageSource::Path(path) => Some(stem(path)),
        ImageSource::Png(_) => None,
    });
    let fields = IndexMap::from([("prompt".to_owned(), question.clone())]);
    let built = ExampleBuilder {
        talk,
        id: id(row)
            .or(pictured)
            .unwrap_or_else(|| context.default_id.clone()),
        reference: reference_of(answer, &question),
        fields,
        images,
        target: Some(answer.to_owned()),
    };
    Ok(built.finish())
}

/// The turns before: pairs of an instruction and its answer.
fn history(row: &Value) -> Result<Vec<Turn>, String> {
    let pairs = match row.get("history") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(pairs)) => pairs,
        Some(other) => {
            return Err(format!(
                "key `history` must be a list of pairs, is {}",
                kind(other)
            ));
        }
    };
    let turn = |role: &str, words: &Value| {
        let words = words.as_str()?.to_owned();
        Some(Turn {
            role: role.to_owned(),
            words: Some(words),
            ..Turn::default()
        })
    };
    let pair = |(at, pair): (usize, &Value)| match pair.as_array().map(Vec::as_slice) {
        Some([question, answer]) => turn("user", question)
            .zip(turn("assistant", answer))
            .map(|(question, answer)| [question, answer])
            .ok_or_else(|| format!("key `history.{at}` must be two strings")),
        _ => Err(format!(
            "key `history.{at}` must be an instruction and its answer"
        )),
    };
    let pairs: Vec<[Turn; 2]> = pairs
        .iter()
        .enumerate()
        .map(pair)
        .collect::<Result<_, _>>()?;
    Ok(pairs.into_iter().flatten().collect())
}
