//! RLRF's reward of LPIPS' distance (arXiv 1801.03924).

use crate::edges::edge_picture;
use crate::encode::{DistanceKind, EncodeRequest, EncoderUse, PictureInput};
use crate::options::reward_options;
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::scale::of_distance;
use crate::rules::value::Value;
use std::sync::Arc;
use svg::Filter;

reward_options! {
    /// RLRF's `1 - 2 LPIPS`, cut to -1..1, both pictures resized to a square by Pillow's bicubic filter.
    Lpips (clip Some([-1.0, 1.0])) {
        /// Name of the encoder under `encoders`: a folder with the trunk's and the lpips package's files.
        encoder: String = String::new(),
        /// Pixels of the square's side, at least 32.
        size: u32 = 256,
        /// `unit` (RLRF), `signed` (the package) or `imagenet` (SArena).
        input: PictureInput = PictureInput::Unit,
        /// Compare dilated Canny edges instead of the pictures.
        canny: bool = false,
    }
}

impl RewardFn for Lpips {
    type Kept = Arc<Picture>;
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
        RewardNeeds::reference_picture()
            .and_encoder(&self.encoder, EncoderUse::Distances(DistanceKind::Lpips))
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
            input: self.input,
        };
        Value::distance(cx.tools.encoders.ask(&self.encoder, request), of_distance)
    }
}

impl Lpips {
    /// The square that is compared.
    fn square(&self, picture: &Picture) -> Picture {
        let side = self.size as usize;
        match self.canny {
            true => edge_picture(picture).resized(side, side, Filter::Bicubic),
            false => picture.resized(side, side, Filter::Bicubic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filled square of one grey in the middle of a white picture.
    fn square(value: u8) -> Picture {
        let inside = |at: usize| (16..48).contains(&(at % 64)) && (16..48).contains(&(at / 64));
        let pixels = (0..64 * 64).flat_map(|at| [if inside(at) { value } else { 255 }; 3]);
        Picture {
            width: 64,
            height: 64,
            rgb: pixels.collect(),
        }
    }

    #[test]
    fn lpips_on_edges_sees_outlines_alone() {
        let rule = |canny| Lpips {
            size: 32,
            input: PictureInput::Unit,
            canny,
            ..Lpips::default()
        };
        let seen = |canny, value| rule(canny).square(&square(value)).rgb;
        assert_ne!(seen(false, 0), seen(false, 60));
        assert_eq!(seen(true, 0), seen(true, 60));
        assert_ne!(seen(true, 0), seen(true, 255), "an outline against none");
    }
}
