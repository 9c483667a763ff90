//! A penalty for pictures that show nothing.

use crate::options::reward_options;
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::value::Value;

reward_options! {
    /// -1 when fewer than `min_fraction` of the pixels have a luma below 250, else 0.
    BlankPenalty (clip None) {
        /// Fraction of pixels, 0 to 1, that must not be white.
        min_fraction: f64 = 0.005,
    }
}

impl RewardFn for BlankPenalty {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::nothing_but(Subject::Svg)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        Value::Known(self.value(&cx.pictures().fitted))
    }
}

impl BlankPenalty {
    pub(crate) fn value(&self, picture: &Picture) -> f64 {
        let drawn = picture.luma().filter(|&v| v < 250.0).count();
        let fraction = drawn as f64 / (picture.width * picture.height) as f64;
        if fraction < self.min_fraction {
            -1.0
        } else {
            0.0
        }
    }
}
