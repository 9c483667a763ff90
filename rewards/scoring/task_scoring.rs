//! What a task adds to scoring: the shape of its completions, how they are drawn, how they are judged.

use crate::completion::CompletionConfig;
use crate::options::Common;
use crate::rules::RewardConfig;
use crate::scoring::rubric::RubricConfig;
use crate::weight::Weight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a task adds to scoring: the shape of its completions, how they are drawn, how they are judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskScoring {
    /// The shape a completion must have.
    pub completion: CompletionConfig,
    /// How SVGs become pictures.
    pub render: svg::RenderConfig,
    /// The rewards and how they combine.
    pub rubric: RubricConfig,
    /// What is measured besides, for the record: it is in no total.
    pub metrics: Vec<RewardConfig>,
    /// When it is measured.
    pub measured: MeasureWhen,
}

/// When a task's metrics are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeasureWhen {
    /// In held-out evaluations and by `svgrl reward --metrics`: training does not pay for it.
    #[default]
    HeldOut,
    /// For training's completions as well, and by a scoring service.
    Always,
}

impl TaskScoring {
    /// The first value out of bounds, as `key: rule, got value`.
    pub fn validate(&self) -> Result<(), String> {
        self.render.validate().map_err(|e| format!("render.{e}"))?;
        self.completion
            .validate()
            .map_err(|e| format!("completion.{e}"))?;
        let text = self.completion.is_text();
        for (i, reward) in self.rubric.rewards.iter().enumerate() {
            reward
                .applies_to(text)
                .map_err(|e| format!("rubric.rewards.{i}.{e}"))?;
        }
        self.rubric.validate().map_err(|e| format!("rubric.{e}"))?;
        for (i, metric) in self.metrics.iter().enumerate() {
            let at = |e: String| format!("metrics.{i}.{e}");
            metric.applies_to(text).map_err(at)?;
            metric.validate().map_err(at)?;
            let Common { name, weight, .. } = metric.common();
            if *weight != Weight::default() {
                return Err(at(
                    "weight: a metric is added to nothing (list it under rubric.rewards to reward it)"
                        .into(),
                ));
            }
            if self.metrics[..i].iter().any(|m| m.common().name == name) {
                return Err(at(format!(
                    "name: {name:?} is taken by another metric (give this one a name)"
                )));
            }
        }
        Ok(())
    }

    /// Whether a rule judges what this task's completions are.
    pub fn accepts(&self, rule: &RewardConfig) -> bool {
        rule.applies_to(self.completion.is_text()).is_ok()
    }

    /// Equal for tasks that score alike, so that two programs can tell whether they mean the same.
    pub fn digest(&self) -> String {
        let mut alike = self.clone();
        let rules = alike.rubric.rewards.iter_mut().chain(&mut alike.metrics);
        rules.for_each(RewardConfig::without_place);
        let text = serde_json::to_string(&alike).unwrap_or_default();
        let bytes = Sha256::digest(text.as_bytes());
        bytes[..8].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The rewards, then the metrics, each with its key.
    pub fn rules(&self) -> impl Iterator<Item = (String, &RewardConfig)> {
        let keyed = |key: &'static str, rules: &'static str| {
            move |(i, rule)| (format!("{key}{rules}.{i}"), rule)
        };
        let rewards = self.rubric.rewards.iter().enumerate();
        let metrics = self.metrics.iter().enumerate();
        rewards
            .map(keyed("rubric.", "rewards"))
            .chain(metrics.map(keyed("", "metrics")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tasks_that_score_differently_have_different_digests() {
        let task = |value| serde_json::from_value::<TaskScoring>(value).unwrap();
        let plain = task(json!({})).digest();
        assert_eq!(plain, task(json!({"render": {"size": 224}})).digest());
        assert_ne!(plain, task(json!({"render": {"size": 225}})).digest());
    }
}
