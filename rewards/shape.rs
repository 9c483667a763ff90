//! Rewards on the shape of the picture as a whole: its aspect ratio, and whether anything is drawn.

use crate::config::reward_options;
use crate::picture::Picture;

reward_options! {
    /// `min(a, b) / max(a, b)` of the two pictures' own aspect ratios (width over height, as the
    /// documents give them, not the canvas they are drawn on).
    Aspect (clip None) {}
}

impl Aspect {
    pub(crate) fn value(a: (f64, f64), b: (f64, f64)) -> f64 {
        let (a, b) = (a.0 / a.1, b.0 / b.1);
        a.min(b) / a.max(b)
    }
}

reward_options! {
    /// -1 when fewer than `min_fraction` of the pixels have a luma below 250, else 0.
    BlankPenalty (clip None) {
        /// Fraction of pixels, 0 to 1, that must not be white.
        min_fraction: f64 = 0.005,
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
