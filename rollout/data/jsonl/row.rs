//! One line of a JSONL file into an [`Example`], by the source's field map.

use std::path::PathBuf;

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde_json::Value;

use super::super::example::Example;

/// Names of ours that a row's key of the same name fills when they are not mapped.
const CONVENTIONAL: [&str; 7] = ["id", "prompt", "draft", "svg", "text", "image", "target"];

/// What a row must have one of: without any of them there is nothing to ask.
const ASKING: [&str; 3] = ["prompt", "draft", "image"];

/// Reads rows by a field map.
#[derive(Debug)]
pub(super) struct RowReader {
    /// Our name, the row's dotted key, and whether the config asked for it.
    fields: Vec<(String, String, bool)>,
    media: PathBuf,
}

impl RowReader {
    /// `fields` maps our names to dotted keys; image paths are relative to `media`.
    pub(super) fn new(fields: &IndexMap<String, String>, media: PathBuf) -> Self {
        let mapped = fields
            .iter()
            .map(|(ours, key)| (ours.clone(), key.clone(), true));
        let conventional = CONVENTIONAL
            .iter()
            .filter(|name| !fields.contains_key(**name))
            .map(|name| ((*name).to_owned(), (*name).to_owned(), false));
        Self {
            fields: mapped.chain(conventional).collect(),
            media,
        }
    }

    /// The example of one line (number `line`, the row's id when it has none), or what is
    /// wrong with it.
    pub(super) fn example(&self, bytes: &[u8], line: u64) -> Result<Example, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
        let row: Value = serde_json::from_str(text)
            .map_err(|error| format!("not JSON: {}", place_in_line(&error)))?;
        if !row.is_object() {
            return Err(format!("a row is a JSON object, this is {}", kind(&row)));
        }
        let mut found = self.collect(&row)?;
        if !ASKING.iter().any(|name| found.contains_key(*name)) {
            return Err(
                "none of prompt, draft and image is there; map one in the source's `fields`"
                    .to_owned(),
            );
        }
        let id = found.shift_remove("id");
        let target = found.shift_remove("target");
        let reference = Reference {
            svg: found.shift_remove("svg"),
            text: found.shift_remove("text"),
            image: found
                .shift_remove("image")
                .map(|path| ImageSource::Path(self.media.join(path))),
        };
        let target = target
            .or_else(|| reference.svg.clone())
            .or_else(|| reference.text.clone());
        let measured = reference.svg.as_ref().or(reference.text.as_ref());
        Ok(Example {
            id: id.unwrap_or_else(|| line.to_string()),
            task: String::new(),
            fields: found,
            images: Vec::new(),
            length: measured
                .or(target.as_ref())
                .map_or(0, |text| text.chars().count()),
            reference,
            target,
        })
    }

    fn collect(&self, row: &Value) -> Result<IndexMap<String, String>, String> {
        let mut found = IndexMap::new();
        for (ours, key, asked) in &self.fields {
            let text = match lookup(row, key) {
                None | Some(Value::Null) if *asked => {
                    return Err(format!("key `{key}` (for `{ours}`) is missing"));
                }
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) if ours == "id" => number.to_string(),
                Some(other) => {
                    return Err(format!(
                        "key `{key}` (for `{ours}`) must be a string, is {}",
                        kind(other)
                    ));
                }
            };
            if text.trim().is_empty() && (*asked || CONVENTIONAL.contains(&ours.as_str())) {
                return Err(format!("key `{key}` (for `{ours}`) is empty"));
            }
            found.insert(ours.clone(), text);
        }
        Ok(found)
    }
}

/// A key as it stands, else its dotted parts through objects and lists.
fn lookup<'a>(row: &'a Value, key: &str) -> Option<&'a Value> {
    row.get(key).or_else(|| {
        key.split('.').try_fold(row, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            other => other.get(part),
        })
    })
}

/// The parser's message with the column only: the line is the file's, not the parser's.
fn place_in_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let cut = message.find(" at line").unwrap_or(message.len());
    format!("{} at column {}", &message[..cut], error.column())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
