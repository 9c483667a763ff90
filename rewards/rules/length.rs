//! The length itself.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Subject,
    Tools,
};
use crate::rules::unit::Unit;
use crate::rules::value::Value;

reward_options! {
    /// The length itself, of the SVG's code or of a text: a metric that papers report. As a reward give it a
    /// negative weight. Invalid completions are left out of the metric.
    SvgLength (clip None) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::Chars,
    }
}

impl RewardFn for SvgLength {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::Unmeasured;
    const REPORTED: &'static [Reported] = &[
        Reported {
            by: Setting::TextToSvg,
            place: 0,
        },
        Reported {
            by: Setting::ImageToSvg,
            place: 3,
        },
        Reported {
            by: Setting::Refinement,
            place: 3,
        },
        Reported {
            by: Setting::Caption,
            place: 3,
        },
    ];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds {
            tokens: self.unit == Unit::Tokens,
            ..RewardNeeds::nothing_but(Subject::Any)
        }
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        Value::Known(self.unit.count(cx.text(), cx.tools.tokens))
    }
}
