//! Where cosines and distances are moved to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a cosine is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The cosine itself, -1..1.
    Raw,
    /// `(cosine + 1) / 2`, 0..1.
    Rescaled,
}

impl Scale {
    /// The cosine on this scale.
    pub(crate) fn of(self, cosine: f64) -> f64 {
        match self {
            Scale::Raw => cosine,
            Scale::Rescaled => (cosine + 1.0) / 2.0,
        }
    }
}

/// RLRF's reward of a distance (arXiv 2505.20793).
pub(crate) fn of_distance(distance: f64) -> f64 {
    1.0 - 2.0 * distance
}
