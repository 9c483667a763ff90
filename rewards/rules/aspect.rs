//! The aspect ratio of the picture as a whole.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::value::Value;

reward_options! {
    /// `min(a, b) / max(a, b)` of the two pictures' own aspect ratios (width over height, as the
    /// documents give them, not the canvas they are drawn on).
    Aspect (clip None) {}
}

impl RewardFn for Aspect {
    type Kept = (f64, f64);
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_picture()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, reference: &ReferencePictures, _: &Tools) -> (f64, f64) {
        reference.drawn().intrinsic
    }

    fn score(&self, cx: &ScoreContext, kept: &(f64, f64)) -> Value {
        Value::Known(Aspect::value(cx.pictures().drawn.intrinsic, *kept))
    }
}

impl Aspect {
    pub(crate) fn value(a: (f64, f64), b: (f64, f64)) -> f64 {
        let (a, b) = (a.0 / a.1, b.0 / b.1);
        a.min(b) / a.max(b)
    }
}
