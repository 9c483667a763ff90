//! One server: its address, how it is called, and what is known of its health.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rewards::{CallError, Caller};
use serde_json::Value;

use super::config::ServersConfig;

/// The longest that a server which failed is left alone, and the shortest.
const LONGEST_REST: Duration = Duration::from_secs(15);
const SHORTEST_REST: Duration = Duration::from_millis(200);
/// What questions about the server may take.
const QUESTION: Duration = Duration::from_secs(30);

/// A server.
pub(super) struct RolloutServer {
    /// Its address.
    pub(super) address: String,
    /// For completions.
    sampling: Caller,
    /// For what is quick.
    questions: Caller,
    /// For updates of the weights, and the model's first answer, which may take minutes.
    slow: Caller,
    health: Mutex<Health>,
}

/// What is known of a server's health.
#[derive(Debug, Default)]
struct Health {
    /// Failures since the last success.
    failures: u32,
    /// Until when it is left alone.
    rests: Option<Instant>,
    /// Whether a request is on its way that finds out whether it is well again.
    on_trial: bool,
    /// Whether its weights are not those that it should sample with.
    stale: bool,
    /// What it failed with last.
    said: String,
}

impl RolloutServer {
    pub(super) fn new(address: &str, token: Option<&str>, config: &ServersConfig) -> Self {
        let caller = |timeout| Caller::new(address, token.map(str::to_owned), timeout, u32::MAX);
        Self {
            address: address.trim_end_matches('/').to_owned(),
            sampling: caller(config.timeout()),
            questions: caller(QUESTION.min(config.deadline())),
            slow: caller(config.timeout()),
            health: Mutex::default(),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a completion, once.
    pub(super) fn sample(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.sampling.call(path, Some(body), &|| false)
    }

    /// Asks or tells something quick, once.
    pub(super) fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        self.questions.tell(path, body, &|| false)
    }

    /// Has something done that takes its time, once: what was sent twice might be done twice.
    pub(super) fn have_done(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.slow.tell(path, Some(body), &|| false)
    }

    /// Whether a completion may be asked of it now; the first one after a failure is alone until it is answered.
    pub(super) fn admit(&self) -> bool {
        let mut health = self.health();
        if health.failures == 0 {
            return true;
        }
        let rests = health.rests.is_some_and(|until| Instant::now() < until);
        if health.on_trial || rests {
            return false;
        }
        health.on_trial = true;
        true
    }

    /// It answered.
    pub(super) fn is_well(&self) {
        let mut health = self.health();
        let stale = health.stale;
        *health = Health {
            stale,
            ..Health::default()
        };
    }

    /// It did not answer, or with nonsense; returns how often in a row.
    pub(super) fn failed(&self, said: &str) -> u32 {
        let mut health = self.health();
        let rest = SHORTEST_REST * 2u32.saturating_pow(health.failures.min(10));
        health.failures += 1;
        health.rests = Some(Instant::now() + rest.min(LONGEST_REST));
        health.on_trial = false;
        said.clone_into(&mut health.said);
        health.failures
    }

    /// Its weights are, or are not, those that it should sample with.
    pub(super) fn set_stale(&self, stale: bool) {
        self.health().stale = stale;
    }

    /// Whether its weights have to be sent again.
    pub(super) fn is_stale(&self) -> bool {
        self.health().stale
    }

    /// What is wrong with it, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        let health = self.health();
        (health.failures > 0).then(|| health.said.clone())
    }
}
