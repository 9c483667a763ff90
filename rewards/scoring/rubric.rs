//! How a task's rewards become one number: weights, gate or sum, what failures and truncated
//! completions get.

use crate::options::{Common, check_bounds, clip};
use crate::reference::Reference;
use crate::rules::{Format, OfInvalid, RewardConfig};
use crate::types::Reward;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How rewards combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Composition {
    /// The weighted sum, times 1 or 0 for format: an invalid completion gets `failure_value` exactly.
    Product,
    /// The weighted sum; an invalid completion's parts are `failure_value` each (format 0).
    Sum,
}

/// What a group's advantages are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Totals.
    Raw,
    /// Weighted parts, each normalised within the group.
    Group,
}

/// Added to a part's deviation within its group, as TRL adds it to a total's.
const EPSILON: f64 = 1e-4;

/// The rewards of a task and how they combine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RubricConfig {
    /// `product`: an invalid completion gets `failure_value` in all; `sum`: each of its parts does.
    pub gate: Composition,
    /// The rewards, each `{type, name, weight, clip, ..}`; names must differ.
    pub rewards: Vec<RewardConfig>,
    /// The value for a completion of the wrong shape or whose SVG does not render.
    pub failure_value: f64,
    /// Completions cut off at the length limit: `score` judges them like others, a number replaces their total.
    pub truncated: TruncatedTotal,
    /// `raw`: advantages are made of totals. `group`: each part is first put to mean 0 and deviation 1 within the
    /// prompt's completions, then weighted and added (GDPO); `offset`, `clip`, `blank_value` and `truncated` then act
    /// on the reported total alone.
    pub normalise: Normalise,
    /// Added to the total of valid completions, so that a poor one can stay above `failure_value`.
    pub offset: f64,
    /// Lower and upper bound of a valid completion's total, after the offset; null for none.
    pub clip: Option<[f64; 2]>,
    /// The total of a valid completion that draws nothing (mean at least 254 or range under 5 of 255); null judges it like others.
    pub blank_value: Option<f64>,
}

impl Default for RubricConfig {
    fn default() -> Self {
        RubricConfig {
            gate: Composition::Product,
            rewards: vec![RewardConfig::Format(Format::default())],
            failure_value: 0.0,
            truncated: TruncatedTotal::Score,
            normalise: Normalise::Raw,
            offset: 0.0,
            clip: None,
            blank_value: None,
        }
    }
}

impl RubricConfig {
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.rewards.is_empty() {
            return Err("rewards: must hold at least one reward".into());
        }
        for (i, reward) in self.rewards.iter().enumerate() {
            reward.validate().map_err(|e| format!("rewards.{i}.{e}"))?;
            let name = reward.common().name;
            if self.rewards[..i].iter().any(|r| r.common().name == name) {
                return Err(format!(
                    "rewards.{i}.name: {name:?} is taken by another reward (give this one a name)"
                ));
            }
        }
        check_bounds(self.clip)?;
        let truncated = if let TruncatedTotal::Value(v) = self.truncated {
            v
        } else {
            0.0
        };
        let fixed = [
            self.failure_value,
            self.offset,
            self.blank_value.unwrap_or(0.0),
            truncated,
        ];
        if fixed.iter().any(|v| !v.is_finite()) {
            return Err("failure_value, offset, blank_value, truncated: must be finite".into());
        }
        Ok(())
    }

    /// What the rewards need of a reference and this one has not, as `key: needed by ..`.
    pub fn missing(&self, reference: &Reference) -> Option<String> {
        let missing = self.rewards.iter().filter_map(|r| r.missing(reference));
        // What names one key says more than what names several.
        missing.min_by_key(|missing| missing.starts_with("reference:"))
    }

    /// The total of a valid completion from its parts in the order of `rewards`.
    pub(crate) fn total(&self, values: &[f64], step: u64, blank: bool) -> f64 {
        match self.blank_value {
            Some(value) if blank => value,
            _ => clip(self.weighted(values, step) + self.offset, self.clip),
        }
    }

    /// The parts and total of an invalid completion.
    pub(crate) fn failure(&self, step: u64) -> (Vec<f64>, f64) {
        let part = |r: &RewardConfig| match r.reward().of_invalid() {
            OfInvalid::FailureValue | OfInvalid::Unmeasured => self.failure_value,
            OfInvalid::Zero => 0.0,
        };
        let values: Vec<f64> = self.rewards.iter().map(part).collect();
        let total = match self.gate {
            Composition::Product => self.failure_value,
            Composition::Sum => self.weighted(&values, step),
        };
        (values, total)
    }

    /// The numbers that a group's advantages are made of, from its judgements.
    pub fn shaped(&self, group: &[Reward], step: u64) -> Vec<f64> {
        if self.normalise == Normalise::Raw {
            return group.iter().map(|reward| reward.total).collect();
        }
        let mut shaped = vec![0.0; group.len()];
        for reward in &self.rewards {
            let Common { name, weight, .. } = reward.common();
            let values: Vec<f64> = group
                .iter()
                .map(|judged| judged.parts.get(name).copied().unwrap_or(0.0))
                .collect();
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
            for (sum, value) in shaped.iter_mut().zip(values) {
                *sum += weight.at(step) * (value - mean) / (deviation + EPSILON);
            }
        }
        shaped
    }

    fn weighted(&self, values: &[f64], step: u64) -> f64 {
        self.rewards
            .iter()
            .zip(values)
            .map(|(r, v)| r.common().weight.at(step) * v)
            .sum()
    }
}

/// What a completion cut off at the length limit gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TruncatedTotal {
    /// What it scores.
    Score,
    /// This total.
    Value(f64),
}

impl Serialize for TruncatedTotal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            TruncatedTotal::Score => serializer.serialize_str("score"),
            TruncatedTotal::Value(value) => serializer.serialize_f64(*value),
        }
    }
}

impl<'de> Deserialize<'de> for TruncatedTotal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Text(String),
        }
        match Raw::deserialize(deserializer) {
            Ok(Raw::Number(value)) => Ok(TruncatedTotal::Value(value)),
            Ok(Raw::Text(text)) if text == "score" => Ok(TruncatedTotal::Score),
            _ => Err(D::Error::custom("must be \"score\" or a number")),
        }
    }
}

impl JsonSchema for TruncatedTotal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Truncated".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"const": "score"}, {"type": "number"}]})
    }
}
