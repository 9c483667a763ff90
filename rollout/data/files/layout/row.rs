//! What a row of a command's input shows and says, by the rules of the data's layouts.

use std::path::Path;

use indexmap::IndexMap;
use rewards::ImageSource;
use serde_json::Value;

use super::super::container::Record;
use super::conversation::variables;
use super::pictures::pictures;
use crate::message::{Content, Message};

/// The pictures under `images`, in every form in which a row may carry them; paths are relative to `folder`.
///
/// # Errors
/// What is no picture, by its key.
pub fn row_pictures(images: &Value, folder: &Path) -> Result<Vec<ImageSource>, String> {
    pictures(&Record::of(Value::Null), images, ("images", folder))
}

/// The variables of chat templates that a row brings: `tools`, and those of `chat_template_kwargs`.
///
/// # Errors
/// A value of another kind, by its key.
pub fn row_variables(row: &Value) -> Result<IndexMap<String, Value>, String> {
    variables(row)
}

/// A row's messages and the pictures that stand in them.
#[derive(Debug, Default)]
pub struct RowMessages {
    /// As a chat template takes them.
    pub messages: Vec<Message>,
    /// In their order.
    pub images: Vec<ImageSource>,
}

/// The messages of a row; paths of pictures in their parts are relative to `folder`.
///
/// # Errors
/// What is no message, or a part of another kind, by its key.
pub fn row_messages(messages: Vec<Message>, folder: &Path) -> Result<RowMessages, String> {
    const SOURCES: [&str; 4] = ["image", "image_url", "url", "path"];
    let mut images = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let parts = match &message.content {
            Content::Parts(parts) => parts,
            // A call of a tool may stand alone.
            Content::Absent if !message.more.contains_key("tool_calls") => {
                return Err(format!("messages: missing field `content` (of turn {at})"));
            }
            Content::Absent | Content::Text(_) => continue,
        };
        for (part_at, part) in parts.iter().enumerate() {
            let key = format!("messages.{at}.content.{part_at}");
            match part.get("type").and_then(Value::as_str) {
                Some("image" | "image_url") => {
                    let source = SOURCES.iter().find_map(|name| part.get(*name));
                    if let Some(source) = source {
                        let record = Record::of(Value::Null);
                        images.extend(pictures(&record, source, (&key, folder))?);
                    }
                }
                Some("text") => {}
                Some(other) => {
                    return Err(format!(
                        "key `{key}`: parts of the type `{other}` are not read (text, image)"
                    ));
                }
                None => return Err(format!("key `{key}`: a part has a `type`: text or image")),
            }
        }
    }
    Ok(RowMessages { messages, images })
}
