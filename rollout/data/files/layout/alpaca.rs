//! Alpaca rows as SVG-Sophia publishes them: `instruction` (with `<image>` where a picture stands),
//! `input`, `output` with thoughts and a fenced SVG, `images`; and, where a row has them, `system` and
//! `history`, a list of pairs of an earlier instruction and its answer. The reference is the SVG in the
//! output.

use indexmap::IndexMap;

use super::super::container::{Record, kind};
use super::builder::{
    ExampleBuilder, RowContext, id, images, place_pictures, reference_of, stem, text,
};
use crate::data::example::{Example, Turn};
use rewards::ImageSource;
use serde_json::Value;

pub(super) fn example(record: &Record, context: &RowContext) -> Result<Example, String> {
    let row = &record.value;
    let mut question = text(row, "instruction")?.to_owned();
    if let Ok(input) = text(row, "input") {
        question = format!("{question}\n{input}");
    }
    let answer = text(row, "output")?;
    let images = images(row, context.media)?;
    let mut history = history(row)?;
    place_pictures(&mut history, &question, images.len())?;
    // The published rows have no id; their pictures' names are what evaluations refer to.
    let pictured = images.first().and_then(|image| match image {
        ImageSource::Path(path) => Some(stem(path)),
        ImageSource::Png(_) => None,
    });
    let mut fields = IndexMap::from([("prompt".to_owned(), question.clone())]);
    if let Ok(system) = text(row, "system") {
        fields.insert("system".to_owned(), system.to_owned());
    }
    let built = ExampleBuilder {
        whole_question: true,
        history,
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
    let words = |value: &Value| value.as_str().map(str::to_owned);
    let pair = |(at, pair): (usize, &Value)| match pair.as_array().map(Vec::as_slice) {
        Some([question, answer]) => words(question)
            .zip(words(answer))
            .map(|(question, answer)| Turn { question, answer })
            .ok_or_else(|| format!("key `history.{at}` must be two strings")),
        _ => Err(format!(
            "key `history.{at}` must be an instruction and its answer"
        )),
    };
    pairs.iter().enumerate().map(pair).collect()
}
