//! A question written as a row that the layouts read again: its turns as a chat list, its pictures, its
//! variables and further fields.

use std::path::absolute;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rewards::ImageSource;
use serde_json::{Map, Value, json};

use crate::data::example::{Example, Turn};

/// Fields of an example that a row of answers has no use for: they are its own answer, or its name.
const LEFT_OUT: [&str; 8] = [
    "id", "prompt", "rejected", "svg", "text", "image", "target", "system",
];

/// The row of an example's question, asked in the words `question`; the answers are the caller's.
pub fn conversation_row(example: &Example, question: &str) -> Map<String, Value> {
    let talk = &example.talk;
    let mut turns = Vec::new();
    if let Some(system) = &talk.system {
        turns.push(json!({"role": "system", "content": system}));
    }
    turns.extend(talk.history.iter().map(turn));
    turns.push(json!({"role": "user", "content": question}));
    turns.extend(talk.since.iter().map(turn));
    let mut row = Map::new();
    row.insert("id".to_owned(), json!(example.id));
    row.insert("prompt".to_owned(), Value::Array(turns));
    if !example.images.is_empty() {
        let images = example.images.iter().map(picture).collect();
        row.insert("images".to_owned(), images);
    }
    let mut variables: Map<String, Value> = talk.variables.clone().into_iter().collect();
    if let Some(tools) = variables.shift_remove("tools") {
        row.insert("tools".to_owned(), tools);
    }
    if !variables.is_empty() {
        row.insert("chat_template_kwargs".to_owned(), Value::Object(variables));
    }
    for (name, text) in &example.fields {
        if !LEFT_OUT.contains(&name.as_str()) && !row.contains_key(name) {
            row.insert(name.clone(), json!(text));
        }
    }
    row
}

fn turn(turn: &Turn) -> Value {
    let mut said = Map::new();
    said.insert("role".to_owned(), json!(turn.role));
    said.insert("content".to_owned(), json!(turn.words));
    said.extend(turn.more.clone());
    if let Some(weight) = turn.weight {
        said.insert("weight".to_owned(), json!(weight));
    }
    Value::Object(said)
}

/// Where a picture lies, wherever the row will; or the picture itself.
fn picture(image: &ImageSource) -> Value {
    match image {
        ImageSource::Path(path) => {
            let path = absolute(path).unwrap_or_else(|_| path.clone());
            json!(path.to_string_lossy())
        }
        ImageSource::Png(bytes) => {
            json!(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
        }
    }
}
