//! `1 - MSE` of pixels. Pictures are `[height, width, 3]`, sRGB, both of one size.

use crate::options::{check_size, reward_options};
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;
use std::sync::Arc;
use svg::Raster;

reward_options! {
    /// `1 - MSE`, the mean over pixels and channels in 0..1.
    Mse (clip None) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

impl RewardFn for Mse {
    type Kept = Arc<Picture>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[
        Reported {
            by: Setting::ImageToSvg,
            place: 1,
        },
        Reported {
            by: Setting::Refinement,
            place: 2,
        },
    ];

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
        Value::Known(Mse::value(&own, kept))
    }
}

impl Mse {
    /// The mean squared difference itself, in 0..1, of two pictures of one size over `background` (red, green, blue);
    /// `size` plays no part.
    pub fn between(a: &Raster, b: &Raster, background: [u8; 3]) -> f64 {
        let [a, b] = [a, b].map(|raster| Picture::over(raster, background));
        mean_squared(&a, &b) / (255.0 * 255.0)
    }

    pub(crate) fn value(a: &Picture, b: &Picture) -> f64 {
        1.0 - mean_squared(a, b) / (255.0 * 255.0)
    }
}

/// Mean squared difference of 8-bit values; exact in integers.
pub(crate) fn mean_squared(a: &Picture, b: &Picture) -> f64 {
    let sum: u64 = a
        .rgb
        .iter()
        .zip(&b.rgb)
        .map(|(&x, &y)| u64::from(x.abs_diff(y)).pow(2))
        .sum();
    sum as f64 / a.rgb.len() as f64
}
