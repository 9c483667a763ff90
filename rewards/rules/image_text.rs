//! Cosine of a picture's feature and its text's.

use crate::encode::{EncodeRequest, EncoderUse};
use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Subject,
    Tools,
};
use crate::rules::scale::Scale;
use crate::rules::value::{Value, dot};
use crate::variant::Variant;

reward_options! {
    /// Cosine of the picture's feature and that of its text (`reference.text`, else the prompt) by CLIP,
    /// Long-CLIP or SigLIP.
    ImageText (clip None) {
        /// Name of the encoder under `encoders`.
        encoder: String = String::new(),
        /// `raw`: the cosine (CTRL-S); `rescaled`: (cosine + 1) / 2 (SGP-RL).
        scale: Scale = Scale::Raw,
        /// `strict`: a text that is longer than the network reads is cut off there (Long-CLIP reads 248 tokens).
        /// `as_released`: the value is 0 then, as CTRL-S' reward server answers. Absent: the task's `variant`, else
        /// `strict`.
        variant: Option<Variant> = None,
    }
}

impl RewardFn for ImageText {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::TextToSvg,
        place: 0,
    }];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::nothing_but(Subject::Svg).and_encoder(&self.encoder, EncoderUse::Both)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn take_variant(&mut self, variant: Variant) {
        self.variant.get_or_insert(variant);
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        let ask = |request| cx.tools.encoders.ask(&self.encoder, request);
        let text = ask(match self.variant.unwrap_or_default() {
            Variant::Strict => EncodeRequest::Text(cx.wish()),
            Variant::AsReleased => EncodeRequest::WholeText(cx.wish()),
        });
        let own = ask(EncodeRequest::Picture {
            picture: &cx.pictures().drawn.picture,
            feature: None,
        });
        let scale = self.scale;
        Value::encoded([own, text], move |features| match features[1].is_empty() {
            true => 0.0,
            false => scale.of(dot(&features[0], &features[1])),
        })
    }
}
