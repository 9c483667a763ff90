//! RLRF's L2: pixels after each picture's own normalisation.

use crate::options::{check_size, reward_options};
use crate::picture::{Picture, gaussian_blur};
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::value::Value;
use std::sync::Arc;

reward_options! {
    /// RLRF's L2: each picture less its own mean, over its own standard deviation (over all pixels and
    /// channels, biased); `1 - mean squared difference`, cut to -1..1; -1 when a picture is constant.
    L2 (clip Some([-1.0, 1.0])) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
        /// Taps of a Gaussian blur before comparing, odd; 0 for none. Sigma follows OpenCV's rule for automatic sigma.
        blur: u32 = 0,
    }
}

impl RewardFn for L2 {
    type Kept = Arc<Picture>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_picture()
    }

    fn check(&self) -> Result<(), String> {
        check_size(self.size)?;
        let odd = self.blur == 0 || (self.blur % 2 == 1 && self.blur <= 255);
        if odd {
            Ok(())
        } else {
            Err(format!(
                "blur: must be 0 or odd and at most 255, got {}",
                self.blur
            ))
        }
    }

    fn prepare(&self, reference: &ReferencePictures, _: &Tools) -> Arc<Picture> {
        reference.picture().at(self.size)
    }

    fn score(&self, cx: &ScoreContext, kept: &Arc<Picture>) -> Value {
        let own = cx.pictures().fitted.at(self.size);
        Value::Known(self.value(&own, kept))
    }
}

impl L2 {
    pub(crate) fn value(&self, a: &Picture, b: &Picture) -> f64 {
        let shape = [a.height, a.width, 3];
        let prepare = |p: &Picture| match self.blur {
            0 => p.unit(),
            taps => gaussian_blur(&p.unit(), shape, taps as usize),
        };
        normalised_l2(&prepare(a), &prepare(b))
    }
}

/// `1 - mean((z(a) - z(b))^2)` with z the standard score under an image's own mean and deviation; -1
/// when either has no deviation.
pub(crate) fn normalised_l2(a: &[f64], b: &[f64]) -> f64 {
    let (Some(a), Some(b)) = (moments(a).map(|m| (a, m)), moments(b).map(|m| (b, m))) else {
        return -1.0;
    };
    let ((a, (mean_a, std_a)), (b, (mean_b, std_b))) = (a, b);
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(x, y)| ((x - mean_a) / std_a - (y - mean_b) / std_b).powi(2))
        .sum();
    1.0 - sum / a.len() as f64
}

/// Mean and biased deviation; none for a constant image, whose deviation is rounding noise at most.
fn moments(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (variance.sqrt() > 1e-9).then(|| (mean, variance.sqrt()))
}
