//! BERTScore: how well the tokens of two texts find each other, each token being its feature in a layer of
//! XLM-RoBERTa. After the bert_score package without idf: special tokens may be found but do not count.
//!
//! The package lets the padding of its batches cut negative cosines to 0; here a pair is alone.

use crate::encode::{EncodeRequest, EncoderUse, Encoders, NoAnswer, Promise, TokenLayers};
use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of the matching is the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BertMeasure {
    /// Mean of the completion's tokens, each with the reference's nearest.
    Precision,
    /// Mean of the reference's tokens, each with the completion's nearest.
    Recall,
    /// Their harmonic mean.
    F1,
}

reward_options! {
    /// BERTScore of the completion and `reference.text`, both texts, by an encoder of XLM-RoBERTa's type; no idf
    /// weights.
    BertScore (clip None) {
        /// Name of the encoder under `encoders`.
        encoder: String = String::new(),
        /// The layer, counted from 1, whose tokens are compared; absent: the bert_score package's for the shape of
        /// xlm-roberta-base (9) and xlm-roberta-large (17).
        layer: Option<usize> = None,
        /// `f1`, `precision` or `recall`.
        measure: BertMeasure = BertMeasure::F1,
        /// Below 1: the score becomes `(score - baseline) / (1 - baseline)`, as the package rescales; absent: it stays.
        baseline: Option<f64> = None,
    }
}

impl RewardFn for BertScore {
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
        if self.layer == Some(0) {
            return Err("layer: must be >= 1, got 0".into());
        }
        match self.baseline {
            Some(baseline) if !baseline.is_finite() || baseline >= 1.0 => {
                Err(format!("baseline: must be below 1, got {baseline}"))
            }
            _ => Ok(()),
        }
    }

    fn check_encoder(&self, encoders: &Encoders) -> Result<(), String> {
        self.layer_in(encoders).map(drop)
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        let (layer, width) = match self.layer_in(cx.tools.encoders) {
            Ok(found) => found,
            Err(said) => {
                return Value::encoded([Promise::without_answer(NoAnswer::failed(said))], |_| {
                    f64::NAN
                });
            }
        };
        let ask = |text: &str, keep| {
            let text = text.trim();
            let request = EncodeRequest::Tokens { text, layer, keep };
            cx.tools.encoders.ask(&self.encoder, request)
        };
        let pair = [ask(cx.text(), false), ask(cx.reference_text(), true)];
        let rule = self.clone();
        Value::encoded(pair, move |texts| {
            let tokens = |flat| Tokens { flat, width };
            rule.value(tokens(&texts[0]), tokens(&texts[1]))
        })
    }
}

impl BertScore {
    /// The layer to ask the encoder for, and the numbers of a token there.
    fn layer_in(&self, encoders: &Encoders) -> Result<(usize, usize), String> {
        let Some(tokens) = encoders.token_layers(&self.encoder) else {
            return Err(format!(
                "encoder: `{}` is not of XLM-RoBERTa's type, whose tokens BERTScore compares",
                self.encoder
            ));
        };
        Ok((self.layer_of(tokens)?, tokens.width))
    }

    /// The layer to ask such a network for.
    ///
    /// # Errors
    /// A layer that it has not, or none named for a shape that has no usual one.
    pub(crate) fn layer_of(&self, tokens: TokenLayers) -> Result<usize, String> {
        let TokenLayers { layers, width } = tokens;
        match (self.layer, layers, width) {
            (Some(layer), ..) if layer <= layers => Ok(layer),
            (Some(layer), ..) => Err(format!(
                "layer: must be <= {layers}, the encoder's layers, got {layer}"
            )),
            (None, 12, 768) => Ok(9),
            (None, 24, 1024) => Ok(17),
            (None, ..) => Err(format!(
                "layer: is needed, from 1 to {layers}: only the shapes of xlm-roberta-base and -large have a usual one"
            )),
        }
    }

    /// The score of two texts' tokens as [`Tokens`] reads them.
    pub(crate) fn value(&self, completion: Tokens, reference: Tokens) -> f64 {
        let [precision, recall, f1] = matched(completion, reference);
        let score = match self.measure {
            BertMeasure::Precision => precision,
            BertMeasure::Recall => recall,
            BertMeasure::F1 => f1,
        };
        match self.baseline {
            Some(baseline) => (score - baseline) / (1.0 - baseline),
            None => score,
        }
    }
}

/// A text's tokens, one after the other: each a 1 (0 for a special token) and its feature of unit length.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub flat: &'a [f32],
    /// Numbers of a feature.
    pub width: usize,
}

impl<'a> Tokens<'a> {
    fn rows(self) -> impl Iterator<Item = (bool, &'a [f32])> {
        let row = |row: &'a [f32]| (row[0] > 0.0, &row[1..]);
        self.flat.chunks_exact(self.width + 1).map(row)
    }
}

/// Precision, recall and F1; zeros where a text has special tokens alone.
fn matched(completion: Tokens, reference: Tokens) -> [f64; 3] {
    let nearest = |of: Tokens, among: Tokens| {
        let (mut sum, mut count) = (0.0, 0usize);
        for (_, own) in of.rows().filter(|(counts, _)| *counts) {
            let cosines = among.rows().map(|(_, other)| f64::from(dot(own, other)));
            sum += cosines.fold(f64::NEG_INFINITY, f64::max);
            count += 1;
        }
        (count > 0).then(|| sum / count as f64)
    };
    match (
        nearest(completion, reference),
        nearest(reference, completion),
    ) {
        (Some(precision), Some(recall)) => {
            let f1 = 2.0 * precision * recall / (precision + recall);
            [precision, recall, if f1.is_nan() { 0.0 } else { f1 }]
        }
        _ => [0.0; 3],
    }
}

/// A sum in eight lanes, which the compiler makes wide: texts of 500 tokens have 250,000 pairs.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_takes_its_nearest_and_special_ones_do_not_count() {
        // Two special tokens alike, one word against two.
        let one = [0.0, 1.0, 0.0, 1.0, 0.6, 0.8, 0.0, 1.0, 0.0];
        let two = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.8, 0.6, 0.0, 1.0, 0.0];
        let tokens = |flat| Tokens { flat, width: 2 };
        let [precision, recall, f1] = matched(tokens(&one), tokens(&two));
        assert!((precision - 0.96).abs() < 1e-6, "{precision}");
        assert!((recall - (0.8 + 0.96) / 2.0).abs() < 1e-6, "{recall}");
        assert!((f1 - 2.0 * 0.96 * 0.88 / 1.84).abs() < 1e-6, "{f1}");
        let rule = BertScore {
            measure: BertMeasure::Precision,
            baseline: Some(0.5),
            ..Default::default()
        };
        assert!((rule.value(tokens(&one), tokens(&two)) - 0.92).abs() < 1e-6);
    }

    #[test]
    fn a_text_of_special_tokens_alone_scores_nothing() {
        let word = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0];
        let none = [0.0, 1.0, 0.0, 1.0];
        let tokens = |flat| Tokens { flat, width: 1 };
        assert_eq!(matched(tokens(&word), tokens(&none)), [0.0; 3]);
        assert_eq!(matched(tokens(&none), tokens(&word)), [0.0; 3]);
    }

    #[test]
    fn the_layer_is_the_packages_unless_it_is_named() {
        let rule = |layer| BertScore {
            layer,
            ..Default::default()
        };
        assert_eq!(
            rule(None).layer_of(TokenLayers {
                layers: 12,
                width: 768
            }),
            Ok(9)
        );
        assert_eq!(
            rule(None).layer_of(TokenLayers {
                layers: 24,
                width: 1024
            }),
            Ok(17)
        );
        assert_eq!(
            rule(Some(3)).layer_of(TokenLayers {
                layers: 12,
                width: 768
            }),
            Ok(3)
        );
        assert!(
            rule(None)
                .layer_of(TokenLayers {
                    layers: 6,
                    width: 768
                })
                .is_err()
        );
        assert!(
            rule(Some(13))
                .layer_of(TokenLayers {
                    layers: 12,
                    width: 768
                })
                .is_err()
        );
    }
}
