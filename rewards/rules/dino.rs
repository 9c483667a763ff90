//! Cosines of pictures' features: DINOv2's as CTRL-S, SGP-RL and SArena take them.

use crate::encode::{EncodeRequest, EncoderUse, PictureFeature, Promise};
use crate::options::reward_options;
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::scale::Scale;
use crate::rules::value::Value;
use svg::Filter;

reward_options! {
    /// Cosine of the features of prediction and reference by a picture encoder (DINOv2; CLIP and SigLIP work
    /// as well).
    Dino (clip None) {
        /// Name of the encoder under `encoders`.
        encoder: String = String::new(),
        /// `mean` of all tokens or the `cls` token; ignored by CLIP and SigLIP, whose pooling is their own.
        pool: PictureFeature = PictureFeature::Mean,
        /// `rescaled`: (cosine + 1) / 2; `raw`: the cosine.
        scale: Scale = Scale::Rescaled,
        /// Pixels, 1 to 4096, of a square that the reference is squashed to by the bilinear filter first, whatever its
        /// shape (SGP-RL: 224); absent: it keeps its shape.
        squash_reference: Option<u32> = None,
    }
}

impl RewardFn for Dino {
    type Kept = Promise;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[
        Reported {
            by: Setting::TextToSvg,
            place: 0,
        },
        Reported {
            by: Setting::ImageToSvg,
            place: 0,
        },
        Reported {
            by: Setting::Refinement,
            place: 0,
        },
    ];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_picture().and_encoder(&self.encoder, EncoderUse::Pictures)
    }

    fn check(&self) -> Result<(), String> {
        match self.squash_reference {
            Some(side) if !(1..=4096).contains(&side) => Err(format!(
                "squash_reference: must be from 1 to 4096, got {side}"
            )),
            _ => Ok(()),
        }
    }

    fn prepare(&self, reference: &ReferencePictures, tools: &Tools) -> Promise {
        let picture = reference.picture();
        match self.squash_reference {
            Some(side) => {
                let side = side as usize;
                self.feature(&picture.resized(side, side, Filter::Bilinear), tools)
            }
            None => self.feature(picture, tools),
        }
    }

    fn score(&self, cx: &ScoreContext, kept: &Promise) -> Value {
        let own = self.feature(&cx.pictures().drawn.picture, &cx.tools);
        let scale = self.scale;
        Value::cosine([own, kept.clone()], move |cosine| scale.of(cosine))
    }
}

impl Dino {
    fn feature(&self, picture: &Picture, tools: &Tools) -> Promise {
        let request = EncodeRequest::Picture {
            picture,
            feature: Some(self.pool),
        };
        tools.encoders.ask(&self.encoder, request)
    }
}
