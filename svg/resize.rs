//! Resizing 8-bit images exactly as Pillow does (its fixed-point resampling): a horizontal pass, then
//! a vertical one, each rounded to 8 bits, with the filter widened when shrinking.
//!
//! Pillow 13 takes the vertical pass first for some sizes (seen when only the height shrinks), which
//! moves single pixels by their rounding; this keeps the order of the versions before it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Pillow's BILINEAR: a triangle of radius 1.
    Bilinear,
    /// Pillow's BICUBIC: Keys' cubic with a = -0.5, radius 2.
    Bicubic,
}

impl Filter {
    fn radius(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Filter::Bicubic => 0.0,
        }
    }
}

/// Fraction bits of a weight: 32 less 8 of the pixel and 2 of headroom.
const BITS: u32 = 22;

/// Resizes `[height, width, channels]` bytes, `from` and `to` as (width, height) in pixels, all at least 1.
///
/// # Panics
/// If `pixels` does not hold `from` pixels of `channels` bytes.
pub fn resize(
    pixels: &[u8],
    channels: usize,
    from: (u32, u32),
    to: (u32, u32),
    filter: Filter,
) -> Vec<u8> {
    let (width, height) = (from.0 as usize, from.1 as usize);
    assert_eq!(
        pixels.len(),
        width * height * channels,
        "pixels do not fill the image"
    );
    let (new_width, new_height) = (to.0 as usize, to.1 as usize);
    let mut rows = pixels.to_vec();
    if from.0 != to.0 {
        let taps = taps(from.0, to.0, filter);
        rows = Vec::with_capacity(new_width * height * channels);
        for row in pixels.chunks_exact(width * channels) {
            for tap in &taps {
                rows.extend((0..channels).map(|c| tap.apply(|i| row[i * channels + c])));
            }
        }
    }
    if from.1 == to.1 {
        return rows;
    }
    let stride = new_width * channels;
    let mut result = Vec::with_capacity(new_height * stride);
    for tap in &taps(from.1, to.1, filter) {
        result.extend((0..stride).map(|x| tap.apply(|i| rows[i * stride + x])));
    }
    result
}

/// The input samples of one output sample and their weights.
struct Tap {
    first: usize,
    weights: Vec<i64>,
}

impl Tap {
    fn apply(&self, sample: impl Fn(usize) -> u8) -> u8 {
        let sum = self
            .weights
            .iter()
            .enumerate()
            .fold(1i64 << (BITS - 1), |sum, (i, weight)| {
                sum + i64::from(sample(self.first + i)) * weight
            });
        (sum >> BITS).clamp(0, 255) as u8
    }
}

fn taps(from: u32, to: u32, filter: Filter) -> Vec<Tap> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = filter.radius() * stretch;
    (0..to)
        .map(|out| {
            let center = (f64::from(out) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(from as usize);
            let weights: Vec<f64> = (first..last)
                .map(|i| filter.weight((i as f64 - center + 0.5) / stretch))
                .collect();
            let total: f64 = weights.iter().sum();
            let fixed = |w: &f64| (w / total * f64::from(1u32 << BITS)).round() as i64;
            Tap {
                first,
                weights: weights.iter().map(fixed).collect(),
            }
        })
        .collect()
}
