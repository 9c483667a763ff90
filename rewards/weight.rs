//! A reward's weight: a number, or a schedule over training steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number, or a list of `[step, weight]` joined by straight lines (steps ascending; constant before
/// the first and after the last).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(
    missing_docs,
    reason = "the type says it, and its words are the config's"
)]
pub enum Weight {
    Constant(f64),
    Schedule(Vec<(u64, f64)>),
}

impl Default for Weight {
    fn default() -> Self {
        Weight::Constant(1.0)
    }
}

impl Weight {
    /// The weight at a step.
    pub fn at(&self, step: u64) -> f64 {
        let points = match self {
            Weight::Constant(value) => return *value,
            Weight::Schedule(points) => points,
        };
        let after = points.partition_point(|p| p.0 <= step);
        match (after.checked_sub(1).map(|i| points[i]), points.get(after)) {
            (Some((s0, w0)), Some(&(s1, w1))) => {
                w0 + (w1 - w0) * (step - s0) as f64 / (s1 - s0) as f64
            }
            (Some((_, w)), None) => w,
            (None, Some(&(_, w))) => w,
            (None, None) => 0.0,
        }
    }

    /// Why it cannot be used, if so.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match self {
            Weight::Constant(w) if w.is_finite() => Ok(()),
            Weight::Constant(w) => Err(format!("must be finite, got {w}")),
            Weight::Schedule(points) if points.is_empty() => {
                Err("a schedule needs at least one [step, weight]".into())
            }
            Weight::Schedule(points) if points.iter().any(|p| !p.1.is_finite()) => {
                Err("weights must be finite".into())
            }
            Weight::Schedule(points) if points.windows(2).any(|p| p[0].0 >= p[1].0) => {
                Err("the steps of a schedule must ascend".into())
            }
            Weight::Schedule(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_linear_between_its_points_and_constant_outside() {
        let weight = Weight::Schedule(vec![(10, 0.0), (20, 1.0)]);
        let got: Vec<f64> = [0, 10, 15, 20, 99].iter().map(|&s| weight.at(s)).collect();
        assert_eq!(got, [0.0, 0.0, 0.5, 1.0, 1.0]);
        assert!(
            Weight::Schedule(vec![(2, 0.0), (2, 1.0)])
                .validate()
                .is_err()
        );
    }
}
