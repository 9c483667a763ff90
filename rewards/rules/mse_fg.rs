//! Foreground-weighted error of pixels, after RLRF's reward code.

use crate::options::{check_size, reward_options};
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::value::Value;
use std::sync::Arc;

reward_options! {
    /// Foreground-weighted error: `exp(-3 e)` with `e` the mean squared difference in 0..1 over the
    /// pixels whose luma is under 0.96 in either picture (assumed: the source names the mask, not whose);
    /// 1 when there are none.
    MseForeground (clip None) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

impl RewardFn for MseForeground {
    type Kept = Arc<Picture>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_picture()
    }

    fn check(&self) -> Result<(), String> {
        check_size(self.size)
    }

    fn prepare(&self, reference: &ReferencePictures, _: &Tools) -> Arc<Picture> {
        reference.picture().at(self.size)
    }

    fn score(&self, cx: &ScoreContext, kept: &Arc<Picture>) -> Value {
        let own = cx.pictures().fitted.at(self.size);
        Value::Known(MseForeground::value(&own, kept))
    }
}

impl MseForeground {
    pub(crate) fn value(a: &Picture, b: &Picture) -> f64 {
        let (mut sum, mut count) = (0u64, 0u64);
        let pixels = a
            .rgb
            .as_chunks::<3>()
            .0
            .iter()
            .zip(b.rgb.as_chunks::<3>().0);
        for ((x, y), (luma_a, luma_b)) in pixels.zip(a.luma().zip(b.luma())) {
            if luma_a.min(luma_b) < FOREGROUND * 255.0 {
                sum += x
                    .iter()
                    .zip(y)
                    .map(|(p, q)| u64::from(p.abs_diff(*q)).pow(2))
                    .sum::<u64>();
                count += 3;
            }
        }
        if count == 0 {
            return 1.0;
        }
        (-3.0 * sum as f64 / count as f64 / (255.0 * 255.0)).exp()
    }
}

const FOREGROUND: f64 = 0.96;
