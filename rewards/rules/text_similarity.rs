//! Cosine of two texts' features.

use crate::encode::{EncodeRequest, EncoderUse};
use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::scale::Scale;
use crate::rules::value::Value;

reward_options! {
    /// Cosine of the features of the completion and of `reference.text`, both texts, by XLM-RoBERTa (BGE-M3)
    /// or CLIP's text tower; for completions of format `text`.
    TextSimilarity (clip None) {
        /// Name of the encoder under `encoders`.
        encoder: String = String::new(),
        /// `raw`: the cosine; `rescaled`: (cosine + 1) / 2.
        scale: Scale = Scale::Raw,
    }
}

impl RewardFn for TextSimilarity {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::Caption,
        place: 0,
    }];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_text().and_encoder(&self.encoder, EncoderUse::Texts)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        let pair = [cx.text(), cx.reference_text()];
        let pair = pair.map(|text| {
            let request = EncodeRequest::Text(text);
            cx.tools.encoders.ask(&self.encoder, request)
        });
        let scale = self.scale;
        Value::cosine(pair, move |cosine| scale.of(cosine))
    }
}
