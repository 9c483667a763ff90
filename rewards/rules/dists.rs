//! RLRF's reward of DISTS' distance (arXiv 2004.07728).

use crate::encode::{DistanceKind, EncodeRequest, EncoderUse, PictureInput};
use crate::options::reward_options;
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::scale::of_distance;
use crate::rules::value::Value;
use std::sync::Arc;
use svg::Filter;

reward_options! {
    /// RLRF's `1 - 2 DISTS`, cut to -1..1: how alike structure and texture are. Both pictures are resized to a square
    /// by Pillow's bicubic filter, as for `lpips` (assumed: the source names the rule alone).
    Dists (clip Some([-1.0, 1.0])) {
        /// Name of the encoder under `encoders`: a folder with torchvision's vgg16 and the DISTS package's weights.pt.
        encoder: String = String::new(),
        /// Pixels of the square's side, at least 32.
        size: u32 = 256,
    }
}

impl RewardFn for Dists {
    type Kept = Arc<Picture>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_picture()
            .and_encoder(&self.encoder, EncoderUse::Distances(DistanceKind::Dists))
    }

    fn check(&self) -> Result<(), String> {
        match (32..=4096).contains(&self.size) {
            true => Ok(()),
            false => Err(format!("size: must be from 32 to 4096, got {}", self.size)),
        }
    }

    fn prepare(&self, reference: &ReferencePictures, _: &Tools) -> Arc<Picture> {
        Arc::new(self.square(reference.picture()))
    }

    fn score(&self, cx: &ScoreContext, kept: &Arc<Picture>) -> Value {
        let own = self.square(&cx.pictures().drawn.picture);
        let request = EncodeRequest::Distance {
            picture: &own,
            reference: kept,
            input: PictureInput::Unit,
        };
        Value::distance(cx.tools.encoders.ask(&self.encoder, request), of_distance)
    }
}

impl Dists {
    /// The square that is compared.
    fn square(&self, picture: &Picture) -> Picture {
        let side = self.size as usize;
        picture.resized(side, side, Filter::Bicubic)
    }
}
