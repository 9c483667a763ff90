//! Structural similarity (Wang et al. 2004) exactly as scikit-image computes it on 8-bit RGB with
//! data range 255: sample covariance, K1 0.01, K2 0.03, the mean over the pixels whose window lies
//! inside, then over channels.

use crate::options::{check_size, reward_options};
use crate::picture::{Picture, gaussian_kernel};
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use svg::Raster;

/// The weighting of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Every pixel alike (scikit-image's default, and SArena's).
    Uniform,
    /// A Gaussian of sigma 1.5 cut at 3.5 sigma: 11 pixels.
    Gaussian,
}

reward_options! {
    /// Mean structural similarity, -1 to 1.
    Ssim (clip None) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
        /// `uniform` or `gaussian`.
        window: Window = Window::Uniform,
        /// Pixels on a side of the uniform window, odd, 3 to 63; a Gaussian one has 11. Smaller pictures shrink it.
        window_size: u32 = 7,
    }
}

impl RewardFn for Ssim {
    type Kept = Arc<Picture>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[
        Reported {
            by: Setting::ImageToSvg,
            place: 0,
        },
        Reported {
            by: Setting::Refinement,
            place: 1,
        },
    ];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_picture()
    }

    fn check(&self) -> Result<(), String> {
        check_size(self.size)?;
        let fits = self.window_size % 2 == 1 && (3..=63).contains(&self.window_size);
        if fits {
            Ok(())
        } else {
            Err(format!(
                "window_size: must be odd, from 3 to 63, got {}",
                self.window_size
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

impl Ssim {
    /// Of two pictures of one size over `background` (red, green, blue); `size` plays no part.
    pub fn between(&self, a: &Raster, b: &Raster, background: [u8; 3]) -> f64 {
        self.value(&Picture::over(a, background), &Picture::over(b, background))
    }

    pub(crate) fn value(&self, a: &Picture, b: &Picture) -> f64 {
        let side = a.width.min(a.height);
        let largest = if side % 2 == 1 { side } else { side - 1 };
        let size = match self.window {
            Window::Uniform => self.window_size as usize,
            Window::Gaussian => 11,
        }
        .min(largest);
        let kernel = match self.window {
            Window::Uniform => vec![1.0; size],
            Window::Gaussian => gaussian_kernel(size, 1.5),
        };
        // A uniform window sums integers, so it is normalised once; a Gaussian's kernel already is.
        let scale = if self.window == Window::Uniform {
            1.0 / (size * size) as f64
        } else {
            1.0
        };
        let total: f64 = (0..3)
            .map(|c| {
                channel(
                    a,
                    b,
                    c,
                    &Kernel {
                        taps: &kernel,
                        scale,
                    },
                )
            })
            .sum();
        total / 3.0
    }
}

struct Kernel<'a> {
    taps: &'a [f64],
    scale: f64,
}

fn channel(a: &Picture, b: &Picture, channel: usize, kernel: &Kernel<'_>) -> f64 {
    let size = kernel.taps.len();
    let (width, height) = (a.width, a.height);
    let (out_width, out_height) = (width + 1 - size, height + 1 - size);
    // Five moments a pixel: x, y, xx, yy, xy, filtered along the row, then down the column.
    let mut rows = vec![[0.0f64; 5]; out_width * height];
    let mut line = vec![[0.0f64; 5]; width];
    for y in 0..height {
        for (x, moments) in line.iter_mut().enumerate() {
            let at = (y * width + x) * 3 + channel;
            let (p, q) = (f64::from(a.rgb[at]), f64::from(b.rgb[at]));
            *moments = [p, q, p * p, q * q, p * q];
        }
        for (x, out) in rows[y * out_width..(y + 1) * out_width]
            .iter_mut()
            .enumerate()
        {
            for (moments, tap) in line[x..x + size].iter().zip(kernel.taps) {
                for (o, m) in out.iter_mut().zip(moments) {
                    *o += m * tap;
                }
            }
        }
    }
    let covariance = (size * size) as f64 / ((size * size) as f64 - 1.0);
    let mut sum = 0.0;
    let mut columns = vec![[0.0f64; 5]; out_width];
    for y in 0..out_height {
        columns.fill([0.0; 5]);
        for (k, tap) in kernel.taps.iter().enumerate() {
            let row = &rows[(y + k) * out_width..(y + k + 1) * out_width];
            for (column, moments) in columns.iter_mut().zip(row) {
                for (o, m) in column.iter_mut().zip(moments) {
                    *o += m * tap;
                }
            }
        }
        sum += columns
            .iter()
            .map(|m| similarity(&m.map(|v| v * kernel.scale), covariance))
            .sum::<f64>();
    }
    sum / (out_width * out_height) as f64
}

fn similarity(moments: &[f64; 5], covariance: f64) -> f64 {
    const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
    const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
    let [x, y, xx, yy, xy] = *moments;
    let (vx, vy) = (covariance * (xx - x * x), covariance * (yy - y * y));
    let vxy = covariance * (xy - x * y);
    ((2.0 * x * y + C1) * (2.0 * vxy + C2)) / ((x * x + y * y + C1) * (vx + vy + C2))
}
