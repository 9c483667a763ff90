//! Rewards on the difference of pixels: mean squared error, L2 after each image's own normalisation,
//! foreground-weighted error, PSNR. Pictures are `[height, width, 3]`, sRGB, both of one size.

use crate::config::reward_options;
use crate::picture::{Picture, gaussian_blur};

reward_options! {
    /// `1 - MSE`, the mean over pixels and channels in 0..1.
    Mse (clip None) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

impl Mse {
    pub(crate) fn value(a: &Picture, b: &Picture) -> f64 {
        1.0 - mean_squared(a, b) / (255.0 * 255.0)
    }
}

/// Mean squared difference of 8-bit values; exact in integers.
fn mean_squared(a: &Picture, b: &Picture) -> f64 {
    let sum: u64 = a
        .rgb
        .iter()
        .zip(&b.rgb)
        .map(|(&x, &y)| u64::from(x.abs_diff(y)).pow(2))
        .sum();
    sum as f64 / a.rgb.len() as f64
}

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

impl L2 {
    pub(crate) fn value(&self, a: &Picture, b: &Picture) -> f64 {
        let shape = [a.height, a.width, 3];
        let prepare = |p: &Picture| match self.blur {
            0 => p.unit(),
            taps => gaussian_blur(&p.unit(), shape, taps as usize),
        };
        normalised_l2(&prepare(a), &prepare(b))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
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

reward_options! {
    /// Foreground-weighted error: `exp(-3 e)` with `e` the mean squared difference in 0..1 over the
    /// pixels whose luma is under 0.96 in either picture (assumed: the source names the mask, not whose);
    /// 1 when there are none.
    MseForeground (clip None) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
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

reward_options! {
    /// Peak signal-to-noise ratio in decibels, peak 255: `10 log10(255^2 / MSE)`, 100 for equal
    /// pictures (as SArena counts them). Weigh it by 0.01 for a scale of 0..1.
    Psnr (clip None) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

impl Psnr {
    pub(crate) fn value(a: &Picture, b: &Picture) -> f64 {
        let error = mean_squared(a, b);
        if error == 0.0 {
            100.0
        } else {
            10.0 * (255.0 * 255.0 / error).log10()
        }
    }
}
