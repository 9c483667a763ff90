//! Completions and judgements as JSON rows: what `svgrl reward` reads and writes, and what travels
//! between a scoring service and those who call it.

use crate::invalid::Invalid;
use crate::reference::Reference;
use crate::types::{Candidate, Reward, ScoreJob};
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
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
    /// What was asked for; of a chat, given as a list of messages, the last user turn's words.
    #[serde(default, deserialize_with = "words")]
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

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match &value {
        Value::Null => Ok(None),
        Value::String(_) | Value::Array(_) => Ok(Some(user_words(&value))),
        _ => Err(D::Error::custom(
            "prompt: must be a string or a list of messages",
        )),
    }
}

/// A prompt's text; of a chat, the last user turn's.
pub(crate) fn user_words(value: &Value) -> String {
    let content = |message: &Value| match &message["content"] {
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    match value {
        Value::Array(messages) => {
            let user = messages.iter().rfind(|message| message["role"] == "user");
            user.map(content).unwrap_or_default()
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl ScoreRow {
    /// The keys of a row.
    pub const KEYS: &'static [&'static str] = &[
        "id",
        "task",
        "prompt",
        "completion",
        "reference",
        "truncated",
        "step",
        "measure",
    ];

    /// The row of a job. Pictures stay as they are.
    pub fn of(job: &ScoreJob) -> Self {
        ScoreRow {
            id: job.id.clone().into(),
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
            id: match &self.id {
                Value::Null => String::new(),
                Value::String(id) => id.clone(),
                other => other.to_string(),
            },
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
    /// The number that training sees; null where the completion could not be scored.
    pub total: Option<f64>,
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
    /// The rewards that could not be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unscored: Vec<String>,
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
            unscored: reward.unscored,
        }
    }

    /// The judgement.
    pub fn into_reward(self) -> Reward {
        Reward {
            total: self.total,
            parts: self.parts,
            valid: self.valid,
            reason: self.reason,
            render_ms: self.render_ms,
            metrics: self.metrics,
            unscored: self.unscored,
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
            total: Some(0.1 + 0.2),
            parts: [("z".to_owned(), 1e-300), ("a".to_owned(), -1.0 / 3.0)].into(),
            valid: false,
            reason: "deadline: still drawing after 5 ms".parse().ok(),
            render_ms: 5.25,
            metrics: [("m".to_owned(), 1.0 / 7.0)].into(),
            unscored: vec!["judge".to_owned()],
        };
        let text = serde_json::to_string(&ScoredRow::new(json!(7), reward.clone())).unwrap();
        let back: ScoredRow = serde_json::from_str(&text).unwrap();
        assert_eq!((back.id.clone(), back.into_reward()), (json!(7), reward));
    }

    #[test]
    fn a_prompt_is_words_or_a_chat() {
        let prompt = |value: Value| {
            let row = json!({"completion": "", "prompt": value});
            serde_json::from_value::<ScoreRow>(row).map(|row| row.prompt)
        };
        let part = json!({"type": "text", "text": "a dot"});
        for value in [
            json!("a dot"),
            json!([{"role": "user", "content": "no"}, {"role": "user", "content": "a dot"}]),
            json!([{"role": "user", "content": [{"type": "image"}, part]}, {"role": "assistant", "content": "<svg"}]),
        ] {
            assert_eq!(prompt(value).unwrap().as_deref(), Some("a dot"));
        }
        assert_eq!(prompt(json!(null)).unwrap(), None);
        assert!(prompt(json!(3)).is_err());
    }
}
