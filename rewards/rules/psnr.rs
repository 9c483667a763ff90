//! Peak signal-to-noise ratio.

use crate::options::{check_size, reward_options};
use crate::picture::Picture;
use crate::rules::mse::mean_squared;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;
use std::sync::Arc;
use svg::Raster;

reward_options! {
    /// Peak signal-to-noise ratio in decibels, peak 255: `10 log10(255^2 / MSE)`, 100 for equal
    /// pictures (as SArena counts them). Weigh it by 0.01 for a scale of 0..1.
    Psnr (clip None) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

impl RewardFn for Psnr {
    type Kept = Arc<Picture>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::ImageToSvg,
        place: 2,
    }];

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
        Value::Known(Psnr::value(&own, kept))
    }
}

impl Psnr {
    /// Of two pictures of one size over `background` (red, green, blue); `size` plays no part.
    pub fn between(a: &Raster, b: &Raster, background: [u8; 3]) -> f64 {
        Psnr::value(&Picture::over(a, background), &Picture::over(b, background))
    }

    pub(crate) fn value(a: &Picture, b: &Picture) -> f64 {
        let error = mean_squared(a, b);
        if error == 0.0 {
            100.0
        } else {
            10.0 * (255.0 * 255.0 / error).log10()
        }
    }
}
