//! Completions and judgements as JSON rows: what `svgrl reward` reads and writes, and what travels
//! between a scoring service and those who call it.

use crate::invalid::Invalid;
use crate::reference::Reference;
use crate::types::{Candidate, Reward, ScoreJob};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A completion to judge.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(expecting = "an object {completion, reference, ..}")]
pub struct ScoreRow {
    /// The caller's name for it; comes back with the result.
    #[serde(default)]
    pub id: Value,
    /// The task that says how; none for the first.
    #[serde(default)]
    pub task: Option<String>,
    /// What was asked for.
    #[serde(default)]
    pub prompt: Option<String>,
    /// What was written.
    pub completion: String,
    /// What it should have been.
    #[serde(default)]
    pub reference: Reference,
    /// Whether it ended at the length limit.
    #[serde(default)]
    pub truncated: bool,
    /// Training step, for weight schedules.
    #[serde(default)]
    pub step: u64,
    /// Whether the task's metrics are wanted as well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub measure: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl ScoreRow {
    /// The row of a job. Pictures stay as they are.
    pub fn of(job: &ScoreJob) -> Self {
        ScoreRow {
            id: job.key.into(),
            task: Some(job.task.clone()),
            prompt: Some(job.prompt.to_string()),
            completion: job.candidate.text.clone(),
            reference: (*job.reference).clone(),
            truncated: job.candidate.truncated,
            step: job.step,
            measure: job.measure,
        }
    }

    /// The id and the job, of `default` task when the row names none.
    pub fn into_job(self, default: &str) -> (Value, ScoreJob) {
        let job = ScoreJob {
            key: 0,
            task: self.task.unwrap_or_else(|| default.to_owned()),
            step: self.step,
            measure: self.measure,
            prompt: self.prompt.unwrap_or_default().into(),
            reference: Arc::new(self.reference),
            candidate: Candidate {
                text: self.completion,
                truncated: self.truncated,
            },
        };
        (self.id, job)
    }
}

/// A judged completion.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoredRow {
    /// The caller's name for it.
    pub id: Value,
    /// The number that training sees.
    pub total: f64,
    /// Each reward by its name, clipped, not weighted.
    pub parts: IndexMap<String, f64>,
    /// Whether it has the asked shape and renders.
    pub valid: bool,
    /// Null when valid.
    pub reason: Option<Invalid>,
    /// Milliseconds spent drawing it.
    pub render_ms: f64,
    /// What was measured besides, where it was.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub metrics: IndexMap<String, f64>,
}

impl ScoredRow {
    /// A judgement under its caller's name.
    pub fn new(id: Value, reward: Reward) -> Self {
        ScoredRow {
            id,
            total: reward.total,
            parts: reward.parts,
            valid: reward.valid,
            reason: reward.reason,
            render_ms: reward.render_ms,
            metrics: reward.metrics,
        }
    }

    /// The judgement.
    pub fn into_reward(self) -> Reward {
        Reward {
            deadline_hit: self.reason.as_ref().is_some_and(Invalid::is_deadline),
            total: self.total,
            parts: self.parts,
            valid: self.valid,
            reason: self.reason,
            render_ms: self.render_ms,
            metrics: self.metrics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_judgement_survives_the_wire_bit_by_bit() {
        let reward = Reward {
            total: 0.1 + 0.2,
            parts: [("z".to_owned(), 1e-300), ("a".to_owned(), -1.0 / 3.0)].into(),
            valid: false,
            reason: "deadline: still drawing after 5 ms".parse().ok(),
            render_ms: 5.25,
            deadline_hit: true,
            metrics: [("m".to_owned(), 1.0 / 7.0)].into(),
        };
        let text = serde_json::to_string(&ScoredRow::new(json!(7), reward.clone())).unwrap();
        let back: ScoredRow = serde_json::from_str(&text).unwrap();
        assert_eq!((back.id.clone(), back.into_reward()), (json!(7), reward));
    }
}
