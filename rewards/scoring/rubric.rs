//! How a task's rewards become one number: weights, gate or sum, what failures and truncated
//! completions get.

use crate::options::{Common, check_bounds, clip};
use crate::reference::Reference;
use crate::rules::{Format, OfInvalid, RewardConfig};
use crate::types::Reward;
use crate::word_or_number::word_or_number;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// A reward that could not be had for a completion, because a judge, an encoder or a service failed: `exclude` leaves
    /// the completion unscored (no total, out of its group's mean and deviation, advantage 0); a number is the reward's
    /// value instead, such as the 0 of CTRL-S' released code.
    pub unscored: Unscored,
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
            unscored: Unscored::Exclude,
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
        let fixed = [
            self.failure_value,
            self.offset,
            self.blank_value.unwrap_or(0.0),
            self.truncated.number().unwrap_or(0.0),
            self.unscored.number().unwrap_or(0.0),
        ];
        if fixed.iter().any(|v| !v.is_finite()) {
            return Err(
                "failure_value, offset, blank_value, truncated, unscored: must be finite".into(),
            );
        }
        Ok(())
    }

    /// What the rewards need of a reference and this one has not, as `key: needed by ..`.
    pub fn missing(&self, reference: &Reference) -> Option<String> {
        let missing = self.rewards.iter().filter_map(|r| r.missing(reference));
        // What names one key says more than what names several.
        missing.min_by_key(|missing| missing.starts_with("reference:"))
    }

    /// The total of a valid completion from its parts in the order of `rewards`; none where one that weighs something is
    /// missing.
    pub(crate) fn total(&self, values: &[Option<f64>], step: u64, blank: bool) -> Option<f64> {
        match self.blank_value {
            Some(value) if blank => Some(value),
            _ => {
                let sum = self.weighted(values, step)?;
                Some(clip(sum + self.offset, self.clip))
            }
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
            Composition::Sum => {
                let all: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
                self.weighted(&all, step).unwrap_or_default()
            }
        };
        (values, total)
    }

    /// The numbers that a group's advantages are made of, from its judgements; none of those that could not be scored,
    /// which count for nobody.
    pub fn shaped(&self, group: &[Reward], step: u64) -> Vec<Option<f64>> {
        if self.normalise == Normalise::Raw {
            return group.iter().map(|reward| reward.total).collect();
        }
        let scored = || group.iter().filter(|reward| reward.total.is_some());
        let mut shaped = vec![0.0; scored().count()];
        for reward in &self.rewards {
            let Common { name, weight, .. } = reward.common();
            let values: Vec<f64> = scored()
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
        let mut shaped = shaped.into_iter();
        let place = |reward: &Reward| reward.total.and_then(|_| shaped.next());
        group.iter().map(place).collect()
    }

    /// The weighted sum; none where a value is missing that weighs something.
    fn weighted(&self, values: &[Option<f64>], step: u64) -> Option<f64> {
        let product = |(reward, value): (&RewardConfig, &Option<f64>)| {
            let weight = reward.common().weight.at(step);
            match value {
                Some(value) => Some(weight * value),
                None => (weight == 0.0).then_some(0.0),
            }
        };
        self.rewards.iter().zip(values).map(product).sum()
    }
}

word_or_number! {
    /// What a completion cut off at the length limit gets.
    TruncatedTotal {
        /// What it scores.
        Score = "score",
        /// This total.
        Value
    }
}

word_or_number! {
    /// What becomes of a completion when a reward could not be had.
    Unscored {
        /// It is unscorable.
        Exclude = "exclude",
        /// The reward is this.
        Value
    }
}
