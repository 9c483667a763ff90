//! RLRF's ratio of lengths, against collapse.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::unit::Unit;
use crate::rules::value::Value;

reward_options! {
    /// The ratio rule against length collapse (RLRF's reward code): with `q = L / L_ref`, -1 below one
    /// half, else `1 - (q - 1)^2`.
    LengthRatio (clip Some([-1.0, 1.0])) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::Chars,
    }
}

impl RewardFn for LengthRatio {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds {
            tokens: self.unit == Unit::Tokens,
            reference_svg: true,
            ..RewardNeeds::nothing_but(Subject::Svg)
        }
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        let length = |svg: &str| self.unit.count(svg, cx.tools.tokens);
        let reference = length(cx.reference_svg().trim());
        Value::Known(LengthRatio::value(length(cx.text()), reference))
    }
}

impl LengthRatio {
    pub(crate) fn value(length: f64, reference: f64) -> f64 {
        let ratio = length / reference;
        if ratio < 0.5 {
            -1.0
        } else {
            1.0 - (ratio - 1.0).powi(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_ratio_punishes_collapse() {
        let got: Vec<f64> = [49.0, 50.0, 100.0, 200.0]
            .map(|l| LengthRatio::value(l, 100.0))
            .to_vec();
        assert_eq!(got, [-1.0, 0.75, 1.0, 0.0]);
    }
}
