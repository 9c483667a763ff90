//! Turns of a conversation: words, and words with pictures.

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: Content,
}

/// What is said in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Words alone.
    Text(String),
    /// Words and pictures, as chat templates take them: objects with a `type`.
    Parts(Vec<serde_json::Value>),
}

impl Content {
    /// In one string, `picture` standing for each picture: for chat templates that know words only.
    #[must_use]
    pub fn in_words(self, picture: &str) -> Self {
        let Self::Parts(parts) = self else {
            return self;
        };
        let word = |part: &serde_json::Value| match part["type"].as_str() {
            Some("image") => picture.to_owned(),
            _ => part["text"].as_str().unwrap_or_default().to_owned(),
        };
        Self::Text(parts.iter().map(word).collect())
    }

    /// Words with a picture at each [`PICTURE`] in them.
    pub(crate) fn with_pictures(text: &str) -> Self {
        let mut parts = Vec::new();
        for (index, words) in text.split(PICTURE).enumerate() {
            if index > 0 {
                parts.push(serde_json::json!({"type": "image"}));
            }
            if !words.is_empty() {
                parts.push(serde_json::json!({"type": "text", "text": words}));
            }
        }
        Self::Parts(parts)
    }
}

/// The place of a picture in the words of a template or a row.
pub const PICTURE: &str = "<image>";
