//! A service of the user's own: `POST url` with `{"items": [row, ..]}`.

use super::answers::of_batch;
use super::setup::Batching;
use crate::error::RewardError;
use crate::http::Caller;
use crate::scores::Verdict;
use serde_json::{Value, json};
use std::time::Duration;

/// The way to a service.
pub(super) struct HttpLink {
    caller: Caller,
    path: String,
}

impl HttpLink {
    /// # Errors
    /// A key's variable that is not set.
    pub fn open(url: &str, key_env: Option<&str>, how: Batching) -> Result<Self, RewardError> {
        let read = |name: &str| {
            let problem = |e| RewardError::Config(format!("api_key_env: {name}: {e}"));
            std::env::var(name).map_err(problem)
        };
        let key = key_env.map(read).transpose()?;
        // The path is kept as it stands, a slash at its end included.
        let host = url.find("://").map_or(0, |at| at + 3);
        let path = url[host..].find('/').map_or(url.len(), |at| host + at);
        let timeout = Duration::from_millis(how.timeout_ms);
        Ok(HttpLink {
            caller: Caller::new(&url[..path], key, timeout, how.retries),
            path: url[path..].to_owned(),
        })
    }

    pub fn ask(&self, rows: &[Value]) -> Result<Vec<Verdict>, String> {
        let body = json!({"items": rows});
        let answer = self.caller.call(&self.path, Some(&body), &|| true);
        let answer = answer.map_err(|error| error.message)?;
        of_batch(&answer, rows.len())
    }
}
