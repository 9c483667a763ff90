//! Format: that a completion is valid at all.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::value::Value;

reward_options! {
    /// 1 when the completion has the asked shape and its SVG renders, else 0 (CTRL-S' R_format). With
    /// `gate: product` the total is gated by it in any case; listed, it is reported and added as well.
    Format (clip None) {}
}

impl RewardFn for Format {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::Zero;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::nothing_but(Subject::Any)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, _: &ScoreContext, (): &()) -> Value {
        Value::Known(1.0)
    }
}
