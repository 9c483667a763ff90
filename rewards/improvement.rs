//! How much a completion is better than the draft that it began from: the refinement task's own question.

use crate::config::reward_options;
use crate::picture::Picture;
use crate::pixel::{Mse, MseForeground};
use crate::ssim::Ssim;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What likeness is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// Structural similarity, as the reward `ssim` with its defaults.
    Ssim,
    /// `1 - MSE`, as the reward `mse`.
    Mse,
    /// As the reward `mse_fg`.
    MseFg,
}

reward_options! {
    /// The completion's likeness to the reference less the draft's own: above 0 where the work helped. Needs
    /// `reference.draft`; one that does not render has likeness 0.
    Improvement (clip None) {
        /// `ssim`, `mse` or `mse_fg`.
        of: Likeness = Likeness::Ssim,
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

impl Improvement {
    /// The likeness of two pictures of one size.
    pub(crate) fn likeness(&self, a: &Picture, b: &Picture) -> f64 {
        match self.of {
            Likeness::Ssim => Ssim::default().value(a, b),
            Likeness::Mse => Mse::value(a, b),
            Likeness::MseFg => MseForeground::value(a, b),
        }
    }
}
