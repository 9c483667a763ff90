//! Descriptions with their drawing, as SGP-Gen publishes them: `description` with `svg`
//! (svg-gen-70k.jsonl) or `svg_content` (SGP-Object.json). A row without either has its words alone: rewards that
//! compare with them need nothing else, and whatever needs a drawing refuses it. Rows whose `success` or
//! `api_call_success` is false hold no drawing and are bad rows.

use indexmap::IndexMap;
use rewards::Reference;
use serde_json::Value;

use super::super::container::Record;
use super::builder::{ExampleBuilder, RowContext, id, text};
use crate::data::example::{Example, Talk};

/// Keys of a row that are read.
pub(super) const KEYS: [&str; 8] = [
    "id",
    "description",
    "svg",
    "svg_content",
    "major_class",
    "sub_class",
    "success",
    "api_call_success",
];

pub(super) fn example(record: &Record, context: &RowContext) -> Result<Example, String> {
    let row = &record.value;
    for key in ["success", "api_call_success"] {
        if row.get(key) == Some(&Value::Bool(false)) {
            return Err(format!("key `{key}` is false: the row holds no drawing"));
        }
    }
    let prompt = text(row, "description")?.to_owned();
    let there = |key: &&str| row.get(*key).is_some_and(|value| !value.is_null());
    let svg = ["svg", "svg_content"].into_iter().find(there);
    let svg = svg
        .map(|key| text(row, key))
        .transpose()?
        .map(str::to_owned);
    let mut fields = IndexMap::from([("prompt".to_owned(), prompt.clone())]);
    for key in ["major_class", "sub_class"] {
        if let Ok(class) = text(row, key) {
            fields.insert(key.to_owned(), class.to_owned());
        }
    }
    let built = ExampleBuilder {
        talk: Talk::default(),
        id: id(row).unwrap_or_else(|| context.default_id.clone()),
        fields,
        images: Vec::new(),
        reference: Reference {
            svg: svg.clone(),
            text: Some(prompt),
            ..Default::default()
        },
        target: svg,
    };
    Ok(built.finish())
}
