//! SGP-RL's reward on the length of the SVG code.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::unit::Unit;
use crate::rules::value::Value;

reward_options! {
    /// SGP-RL's length reward: `max(0, min(1, 1 - L / max_length))`, without a reference.
    LengthLinear (clip None) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::NonSpace,
        /// The length, above 0, from which the reward is 0.
        max_length: f64 = 6000.0,
    }
}

impl RewardFn for LengthLinear {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds {
            tokens: self.unit == Unit::Tokens,
            ..RewardNeeds::nothing_but(Subject::Any)
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.max_length > 0.0 {
            Ok(())
        } else {
            Err(format!("max_length: must be > 0, got {}", self.max_length))
        }
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        let length = self.unit.count(cx.text(), cx.tools.tokens);
        Value::Known(self.value(length))
    }
}

impl LengthLinear {
    pub(crate) fn value(&self, length: f64) -> f64 {
        (1.0 - length / self.max_length).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_linear_stays_between_zero_and_one() {
        let rule = LengthLinear::default();
        assert_eq!(
            [0.0, 3000.0, 6000.0, 9000.0].map(|l| rule.value(l)),
            [1.0, 0.5, 0.0, 0.0]
        );
    }
}
