//! L2 on edge maps (RLRF): dilated edges blurred by a 13x13 Gaussian, then compared after own mean and deviation.

use crate::edges::dilated_edges;
use crate::options::{check_size, reward_options};
use crate::picture::{Picture, gaussian_blur};
use crate::rules::l2::normalised_l2;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::value::Value;

reward_options! {
    /// L2 on edge maps: `1 - mean squared difference` of the maps after each one's own mean and standard
    /// deviation, cut to -1..1; -1 when a picture has no edge.
    L2Canny (clip Some([-1.0, 1.0])) {
        /// Compare at this many pixels of the longer side; null for the rendering's own size.
        size: Option<u32> = None,
    }
}

const BLUR: usize = 13;

impl RewardFn for L2Canny {
    type Kept = Vec<f64>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_picture()
    }

    fn check(&self) -> Result<(), String> {
        check_size(self.size)
    }

    fn prepare(&self, reference: &ReferencePictures, _: &Tools) -> Vec<f64> {
        L2Canny::edge_map(&reference.picture().at(self.size))
    }

    fn score(&self, cx: &ScoreContext, kept: &Vec<f64>) -> Value {
        let own = L2Canny::edge_map(&cx.pictures().fitted.at(self.size));
        Value::Known(normalised_l2(&own, kept))
    }
}

impl L2Canny {
    /// The blurred edge map `[height, width]`, 0..1.
    pub(crate) fn edge_map(picture: &Picture) -> Vec<f64> {
        let edges = dilated_edges(picture);
        let unit: Vec<f64> = edges.iter().map(|&e| f64::from(u8::from(e))).collect();
        gaussian_blur(&unit, [picture.height, picture.width, 1], BLUR)
    }
}
