//! What a scoring service takes in: `rewards.service`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Bounds of a scoring service (`svgrl serve-rewards`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Completions that may be waiting or being judged, at least 1; a request beyond is answered 429 with Retry-After.
    pub queue: usize,
    /// Completions of one request, at least 1.
    pub max_items: usize,
    /// Mebibytes, at least 1, of one request's body.
    pub max_body_mib: usize,
    /// Requests answered at the same time, and as many whose bodies are arriving, at least 1; one beyond is answered
    /// 429. Twice as many connections (at least 64) may be open; one beyond waits to be taken.
    pub max_requests: usize,
    /// Milliseconds, at least 1, in which the head of a request must arrive on an open connection; one that is silent
    /// for longer is closed.
    pub idle_ms: u64,
    /// Milliseconds, at least 1, in which a request's body must have arrived; one that takes longer is answered 408.
    pub body_ms: u64,
    /// Milliseconds, at least 1: when connections or bodies in arrival are as many as may be, the one that has been
    /// waited for the longest, and longer than this, is closed in favour of another.
    pub patience_ms: u64,
    /// Milliseconds, at least 1, after which a completion that was not judged is answered as invalid with the reason `service_deadline`.
    /// A run that scores here asks for a second more than its `rewards.deadline_ms`; slow encoders and judges need more.
    pub deadline_ms: u64,
    /// Milliseconds that requests in flight may take after SIGTERM or SIGINT.
    pub grace_ms: u64,
    /// PNG files that a request may name as `reference.image` by these names, relative to the config's folder.
    pub images: IndexMap<String, PathBuf>,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        ServiceConfig {
            queue: 4096,
            max_items: 1024,
            max_body_mib: 64,
            max_requests: 256,
            idle_ms: 30_000,
            body_ms: 30_000,
            patience_ms: 1000,
            deadline_ms: 30_000,
            grace_ms: 30_000,
            images: IndexMap::new(),
        }
    }
}

impl ServiceConfig {
    pub(crate) fn validate(&self) -> Result<(), String> {
        let counts = [
            ("queue", self.queue as u64),
            ("max_items", self.max_items as u64),
            ("max_body_mib", self.max_body_mib as u64),
            ("max_requests", self.max_requests as u64),
            ("idle_ms", self.idle_ms),
            ("body_ms", self.body_ms),
            ("patience_ms", self.patience_ms),
            ("deadline_ms", self.deadline_ms),
        ];
        if let Some((key, _)) = counts.iter().find(|count| count.1 == 0) {
            return Err(format!("{key}: must be >= 1, got 0"));
        }
        if self.max_body_mib > 1024 {
            return Err(format!(
                "max_body_mib: must be <= 1024, got {}",
                self.max_body_mib
            ));
        }
        Ok(())
    }
}
