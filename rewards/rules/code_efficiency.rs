//! CTRL-S' reward on the length of the SVG code (the think text does not count).

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::unit::Unit;
use crate::rules::value::Value;
use crate::variant::Variant;

reward_options! {
    /// CTRL-S' R_eff: `1 - (max(0, L - L_ref / 2) / L_ref)^2`: full at half the reference's length or
    /// less, 0.75 at equal, 0 at 1.5 times, unbounded below unless clipped.
    CodeEfficiency (clip None) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::Chars,
        /// `strict`: the formula as printed. `as_released`: CTRL-S' training code, which adds 1e-8 to the reference's length
        /// and takes 0 for what is below. Absent: the task's `variant`, else `strict`.
        variant: Option<Variant> = None,
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

    fn take_variant(&mut self, variant: Variant) {
        self.variant.get_or_insert(variant);
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        let length = |svg: &str| self.unit.count(svg, cx.tools.tokens);
        let reference = length(cx.reference_svg().trim());
        let own = length(cx.text());
        Value::Known(match self.variant.unwrap_or_default() {
            Variant::Strict => CodeEfficiency::value(own, reference),
            Variant::AsReleased => CodeEfficiency::as_released(own, reference),
        })
    }
}

impl CodeEfficiency {
    pub(crate) fn value(length: f64, reference: f64) -> f64 {
        1.0 - ((length - reference / 2.0).max(0.0) / reference).powi(2)
    }

    fn as_released(length: f64, reference: f64) -> f64 {
        let over = (length - reference / 2.0).max(0.0) / (reference + 1e-8);
        (1.0 - over.powi(2)).max(0.0)
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

    /// Values of `training/reward_function.py` in hmwang2002/CTRL-S, commit 70b0f3f, evaluated in Python.
    #[test]
    fn the_released_code_has_its_own_values() {
        for (length, value) in [
            (50.0, 1.0),
            (100.0, 0.750_000_000_05),
            (120.0, 0.510_000_000_097_999_8),
            (150.0, 1.999_997_9e-10),
            (200.0, 0.0),
        ] {
            let got = CodeEfficiency::as_released(length, 100.0);
            assert!((got - value).abs() < 1e-16, "{length}: {got}");
        }
    }
}
