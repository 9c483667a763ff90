//! How a remote scoring service is called: `rewards.remote`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the services at `rewards.endpoint` or `rewards.endpoints` are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteConfig {
    /// File with the service's token, relative to the config's folder; absent when it needs none.
    pub token_file: Option<PathBuf>,
    /// Completions in one request, at least 1.
    pub batch: usize,
    /// Requests under way at the same time at each service, at least 1.
    pub connections: usize,
    /// Milliseconds, at least 1, to wait for an answer before the request counts as failed; never less than
    /// `rewards.deadline_ms` and two seconds.
    pub timeout_ms: u64,
    /// How often a failed request, or one of whose completions none was judged in time, is sent again (with growing
    /// pauses where it failed) before the run stops; with several services, so often to each.
    pub retries: u32,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        RemoteConfig {
            token_file: None,
            batch: 32,
            connections: 4,
            timeout_ms: 120_000,
            retries: 8,
        }
    }
}

impl RemoteConfig {
    pub(crate) fn validate(&self) -> Result<(), String> {
        let counts = [
            ("batch", self.batch as u64),
            ("connections", self.connections as u64),
            ("timeout_ms", self.timeout_ms),
        ];
        match counts.iter().find(|count| count.1 == 0) {
            Some((key, _)) => Err(format!("{key}: must be >= 1, got 0")),
            None => Ok(()),
        }
    }
}
