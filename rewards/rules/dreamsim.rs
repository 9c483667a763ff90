//! RLRF's reward of DreamSim's distance (arXiv 2306.09344).

use crate::edges::edge_picture;
use crate::encode::{EncodeRequest, EncoderUse, Promise};
use crate::options::reward_options;
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::scale::of_distance;
use crate::rules::value::Value;

reward_options! {
    /// RLRF's `1 - 2 DreamSim`: the distance is one less the cosine of the ensemble's features.
    DreamSim (clip None) {
        /// Name of the encoder under `encoders`: the dreamsim package's cache folder.
        encoder: String = String::new(),
        /// Compare dilated Canny edges instead of the pictures.
        canny: bool = false,
    }
}

impl RewardFn for DreamSim {
    type Kept = Promise;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[
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
        RewardNeeds::reference_picture().and_encoder(&self.encoder, EncoderUse::DreamSim)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, reference: &ReferencePictures, tools: &Tools) -> Promise {
        self.feature(reference.picture(), tools)
    }

    fn score(&self, cx: &ScoreContext, kept: &Promise) -> Value {
        let own = self.feature(&cx.pictures().drawn.picture, &cx.tools);
        Value::cosine([own, kept.clone()], |cosine| of_distance(1.0 - cosine))
    }
}

impl DreamSim {
    fn feature(&self, picture: &Picture, tools: &Tools) -> Promise {
        let ask = |picture: &Picture| {
            let feature = None;
            let request = EncodeRequest::Picture { picture, feature };
            tools.encoders.ask(&self.encoder, request)
        };
        match self.canny {
            true => ask(&edge_picture(picture)),
            false => ask(picture),
        }
    }
}
