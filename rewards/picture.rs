//! Pictures as the rewards compare them: 8-bit RGB over the task's background, at one size.

use std::sync::Arc;
use svg::{Filter, Raster, RenderConfig, resize};

/// `rgb` holds `[height, width, 3]` bytes, sRGB.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Picture {
    pub fn over(raster: &Raster, background: [u8; 3]) -> Self {
        Picture {
            width: raster.width as usize,
            height: raster.height as usize,
            rgb: raster.rgb_over(background),
        }
    }

    /// Over a task's background.
    pub fn drawn(raster: &Raster, config: &RenderConfig) -> Self {
        Picture::over(raster, config.background.rgb().unwrap_or([255; 3]))
    }

    /// On a reference's pixels, where it has others of its own.
    pub fn on_canvas(self: &Arc<Self>, canvas: Option<(u32, u32)>) -> Arc<Self> {
        match canvas.map(|(width, height)| (width as usize, height as usize)) {
            Some((width, height)) if (width, height) != (self.width, self.height) => {
                Arc::new(self.resized(width, height, Filter::Bicubic))
            }
            _ => self.clone(),
        }
    }

    /// As a PNG.
    pub fn to_png(&self) -> Vec<u8> {
        let opaque = |p: &[u8; 3]| [p[0], p[1], p[2], 255];
        let raster = Raster {
            width: self.width as u32,
            height: self.height as u32,
            rgba: self
                .rgb
                .as_chunks::<3>()
                .0
                .iter()
                .flat_map(opaque)
                .collect(),
        };
        raster
            .to_png()
            .expect("memory takes what is written and the sizes agree")
    }

    /// Shrunk or enlarged to exactly this many pixels.
    pub fn resized(&self, width: usize, height: usize, filter: Filter) -> Self {
        let to = (width as u32, height as u32);
        let rgb = resize(
            &self.rgb,
            3,
            (self.width as u32, self.height as u32),
            to,
            filter,
        );
        Picture { width, height, rgb }
    }

    /// The same aspect ratio with this longer side.
    pub fn longest(&self, side: usize, filter: Filter) -> Self {
        let scale = side as f64 / self.width.max(self.height) as f64;
        let fit = |v: usize| ((v as f64 * scale).round() as usize).clamp(1, side);
        self.resized(fit(self.width), fit(self.height), filter)
    }

    /// The same aspect ratio with this longer side, by Pillow's bicubic filter; as it is where none is said.
    pub fn at(self: &Arc<Self>, side: Option<u32>) -> Arc<Self> {
        match side {
            Some(side) => Arc::new(self.longest(side as usize, Filter::Bicubic)),
            None => self.clone(),
        }
    }

    /// `[height, width, 3]` in 0..1.
    pub fn unit(&self) -> Vec<f64> {
        self.rgb.iter().map(|&v| f64::from(v) / 255.0).collect()
    }

    /// Luma `[height, width]` in 0..255 (0.299, 0.587, 0.114), not rounded.
    pub fn luma(&self) -> impl Iterator<Item = f64> + '_ {
        let pixels = self.rgb.as_chunks::<3>().0.iter();
        pixels.map(|p| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]))
    }

    /// Nothing to see: almost all white (mean at least 254) or almost one value (range under 5), as
    /// RLRF's reward code decides.
    pub fn is_blank(&self) -> bool {
        let (mut low, mut high, mut sum) = (255u8, 0u8, 0u64);
        for &value in &self.rgb {
            (low, high, sum) = (low.min(value), high.max(value), sum + u64::from(value));
        }
        high.saturating_sub(low) < 5 || sum as f64 / self.rgb.len() as f64 >= 254.0
    }
}

/// Separable Gaussian blur as OpenCV's for `size` taps with automatic sigma
/// (`0.3 ((size - 1) / 2 - 1) + 0.8`, but for its fixed small kernels), borders mirrored without
/// repeating the edge, in float64. `data` is `[height, width, channels]`; `size` is odd.
pub(crate) fn gaussian_blur(data: &[f64], shape: [usize; 3], size: usize) -> Vec<f64> {
    let [height, width, channels] = shape;
    let kernel = automatic_kernel(size);
    let half = size / 2;
    let mirror = |i: isize, n: usize| -> usize {
        let period = 2 * (n as isize - 1);
        if period == 0 {
            return 0;
        }
        let i = i.rem_euclid(period);
        i.min(period - i) as usize
    };
    let taps = |at: usize, n: usize| -> Vec<usize> {
        (0..size)
            .map(|k| mirror((at + k) as isize - half as isize, n))
            .collect()
    };
    let mut rows = vec![0.0; data.len()];
    for x in 0..width {
        let taps = taps(x, width);
        for y in 0..height {
            for c in 0..channels {
                let line = y * width;
                rows[(line + x) * channels + c] = taps
                    .iter()
                    .zip(&kernel)
                    .map(|(&t, k)| data[(line + t) * channels + c] * k)
                    .sum();
            }
        }
    }
    let stride = width * channels;
    let mut result = vec![0.0; data.len()];
    for y in 0..height {
        let out = &mut result[y * stride..(y + 1) * stride];
        for (tap, k) in taps(y, height).into_iter().zip(&kernel) {
            for (o, v) in out.iter_mut().zip(&rows[tap * stride..(tap + 1) * stride]) {
                *o += v * k;
            }
        }
    }
    result
}

/// What OpenCV takes when no sigma is given: up to nine taps, kernels in whole parts of 256.
fn automatic_kernel(size: usize) -> Vec<f64> {
    let half: &[f64] = match size {
        3 => &[64.0, 128.0],
        5 => &[16.0, 64.0, 96.0],
        7 => &[8.0, 28.0, 56.0, 72.0],
        9 => &[4.0, 13.0, 30.0, 51.0, 60.0],
        _ => return gaussian_kernel(size, 0.3 * ((size as f64 - 1.0) * 0.5 - 1.0) + 0.8),
    };
    let mirrored = half.iter().chain(half.iter().rev().skip(1));
    mirrored.map(|weight| weight / 256.0).collect()
}

/// Normalised samples of a Gaussian.
pub(crate) fn gaussian_kernel(size: usize, sigma: f64) -> Vec<f64> {
    let center = (size as f64 - 1.0) / 2.0;
    let raw: Vec<f64> = (0..size)
        .map(|i| (-(i as f64 - center).powi(2) / (2.0 * sigma * sigma)).exp())
        .collect();
    let total: f64 = raw.iter().sum();
    raw.into_iter().map(|v| v / total).collect()
}
