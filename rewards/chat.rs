//! Questions to an OpenAI-compatible server, answered in words.

use crate::endpoint::check_endpoint;
use crate::http::Caller;
use crate::reference::ImageSource;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::time::Duration;

/// A server and one of its models; shared by threads.
pub struct ChatServer {
    caller: Caller,
    endpoint: String,
    model: String,
}

/// What it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatQuestion {
    /// The user's words.
    pub text: String,
    /// Pictures, which follow the words, as the released scripts of SArena send them.
    pub pictures: Vec<ImageSource>,
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Keeps the smallest set of tokens with this much probability.
    pub top_p: f64,
    /// Longest answer, in tokens.
    pub max_tokens: usize,
    /// Keys what the server draws, where it honours that.
    pub seed: u64,
}

/// Why there are no words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChatFailure {
    /// Whether somebody answered at all.
    pub reached: bool,
    /// What is wrong, with the address.
    pub message: String,
}

impl ChatServer {
    /// A model behind `endpoint`, the address up to the version (`http://127.0.0.1:8000/v1`); `key` goes into the
    /// bearer header. Questions that fail are sent again `retries` times.
    ///
    /// # Errors
    /// What is no address.
    pub fn new(
        endpoint: &str,
        model: &str,
        key: Option<String>,
        (timeout, retries): (Duration, u32),
    ) -> Result<Self, String> {
        check_endpoint(endpoint)?;
        Ok(Self {
            caller: Caller::new(endpoint, key, timeout, retries),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            model: model.to_owned(),
        })
    }

    /// The answer's words.
    ///
    /// # Errors
    /// A picture that cannot be read; a server that does not answer, or not with words.
    pub fn ask(&self, question: &ChatQuestion) -> Result<String, ChatFailure> {
        let failure = |reached, message| ChatFailure { reached, message };
        let mut content = vec![json!({"type": "text", "text": question.text})];
        for picture in &question.pictures {
            let bytes = picture
                .read()
                .map_err(|error| failure(true, error.to_string()))?;
            let kind = match bytes.get(..4) {
                Some([0xff, 0xd8, ..]) => "jpeg",
                Some(b"RIFF") => "webp",
                _ => "png",
            };
            let url = format!("data:image/{kind};base64,{}", STANDARD.encode(&bytes));
            content.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        let body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": question.temperature,
            "top_p": question.top_p,
            "max_tokens": question.max_tokens,
            "seed": question.seed,
        });
        let answer = self.caller.call("/chat/completions", Some(&body), &|| true);
        let answer = answer.map_err(|error| failure(error.status.is_some(), error.message))?;
        match &answer["choices"][0]["message"]["content"] {
            Value::String(words) => Ok(words.clone()),
            other => {
                let endpoint = &self.endpoint;
                let message = format!("{endpoint}: the answer holds no words but {other}");
                Err(failure(true, message))
            }
        }
    }
}
