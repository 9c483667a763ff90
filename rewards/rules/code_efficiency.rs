//! CTRL-S' reward on the length of the SVG code (the think text does not count).

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::unit::Unit;
use crate::rules::value::Value;

reward_options! {
    /// CTRL-S' R_eff: `1 - (max(0, L - L_ref / 2) / L_ref)^2`: full at half the reference's length or
    /// less, 0.75 at equal, 0 at 1.5 times, unbounded below unless clipped.
    CodeEfficiency (clip None) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::Chars,
    }
}

impl RewardFn for CodeEfficiency {
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
        Value::Known(CodeEfficiency::value(length(cx.text()), reference))
    }
}

impl CodeEfficiency {
    pub(crate) fn value(length: f64, reference: f64) -> f64 {
        1.0 - ((length - reference / 2.0).max(0.0) / reference).powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_efficiency_has_the_papers_values() {
        let got: Vec<f64> = [10.0, 50.0, 100.0, 150.0, 200.0]
            .map(|l| CodeEfficiency::value(l, 100.0))
            .to_vec();
        assert_eq!(got, [1.0, 1.0, 0.75, 0.0, -1.25]);
    }
}
