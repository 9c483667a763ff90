//! A judgement that waits for encoders or judges: what is known of it, and what each missing part will be made of.

use crate::reference::Reference;
use crate::rules::Value;
use crate::types::Reward;
use std::sync::Arc;
use std::time::Instant;

/// What became of a completion's judgement.
pub(crate) enum Outcome {
    Done(Reward),
    Pending(Box<PendingScore>),
}

/// A judgement whose parts are not all known.
pub(crate) struct PendingScore {
    /// One for each reward of the rubric.
    pub parts: Vec<Value>,
    /// Those metrics that are measured, by their place behind the rewards.
    pub metrics: Vec<(usize, Value)>,
    /// All but parts, total and metrics.
    pub reward: Reward,
    pub step: u64,
    /// What it is compared with: what is kept of it is forgotten when an encoder failed.
    pub reference: Arc<Reference>,
    /// Whether the picture shows nothing.
    pub blank: bool,
    /// The total of a completion cut off at the length limit, where the rubric has one.
    pub total: Option<f64>,
}

impl PendingScore {
    fn values(&self) -> impl Iterator<Item = &Value> {
        let metrics = self.metrics.iter().map(|(_, value)| value);
        self.parts.iter().chain(metrics)
    }

    /// Whether nothing of it waits.
    pub fn is_known(&self) -> bool {
        self.values().all(|value| matches!(value, Value::Known(_)))
    }

    /// Whether nothing of it is missing, waiting for that until `until`. A judge that has not answered by
    /// `judges`, where there is such a moment, has failed.
    pub fn is_ready_by(&self, until: Instant, judges: Option<Instant>) -> bool {
        self.values().all(|value| value.is_ready_by(until, judges))
    }
}
