//! How much a completion is better than the draft that it began from: the refinement task's own question.

use crate::options::{check_size, reward_options};
use crate::picture::Picture;
use crate::rules::mse::Mse;
use crate::rules::mse_fg::MseForeground;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::ssim::Ssim;
use crate::rules::value::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What likeness is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
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
        of: Similarity = Similarity::Ssim,
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

/// A reference's picture and how like it the draft is.
pub(crate) struct Baseline {
    target: Arc<Picture>,
    draft: f64,
}

impl RewardFn for Improvement {
    type Kept = Baseline;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::Refinement,
        place: 0,
    }];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds {
            draft: true,
            ..RewardNeeds::reference_picture()
        }
    }

    fn check(&self) -> Result<(), String> {
        check_size(self.size)
    }

    fn prepare(&self, reference: &ReferencePictures, _: &Tools) -> Baseline {
        let target = reference.picture().at(self.size);
        let similarity = |draft: &Arc<Picture>| self.similarity(&draft.at(self.size), &target);
        Baseline {
            draft: reference.draft.map_or(0.0, similarity),
            target,
        }
    }

    fn score(&self, cx: &ScoreContext, kept: &Baseline) -> Value {
        let own = cx.pictures().fitted.at(self.size);
        Value::Known(self.similarity(&own, &kept.target) - kept.draft)
    }
}

impl Improvement {
    /// The similarity of two pictures of one size.
    pub(crate) fn similarity(&self, a: &Picture, b: &Picture) -> f64 {
        match self.of {
            Similarity::Ssim => Ssim::default().value(a, b),
            Similarity::Mse => Mse::value(a, b),
            Similarity::MseFg => MseForeground::value(a, b),
        }
    }
}
