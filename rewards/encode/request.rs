//! What an encoder can be asked.

use crate::picture::Picture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A question to an encoder.
#[cfg_attr(
    not(feature = "perceptual"),
    expect(dead_code, reason = "nobody answers")
)]
pub(crate) enum EncodeRequest<'a> {
    /// The feature of a picture, of unit length; without `feature` by the network's own way.
    Picture {
        picture: &'a Picture,
        feature: Option<PictureFeature>,
    },
    /// The feature of a text, of unit length. Answers are kept.
    Text(&'a str),
    /// The same of a text that the network reads whole; of one that it would cut off the answer is empty.
    WholeText(&'a str),
    /// The features of a text's tokens behind a layer, one token after the other: each a 1 (0 for a special token) and
    /// numbers of unit length. With `keep` the answer is kept for those who ask again.
    Tokens {
        text: &'a str,
        layer: usize,
        keep: bool,
    },
    /// The distance of two pictures of one size; the reference is asked about again and again.
    Distance {
        picture: &'a Picture,
        reference: &'a Arc<Picture>,
        input: PictureInput,
    },
}

/// The layers of a network that tells tokens' features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenLayers {
    /// How many.
    pub layers: usize,
    /// Numbers of a token's feature.
    pub width: usize,
}

/// What stands for a whole picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PictureFeature {
    /// The class token after the last norm (SGP-RL).
    Cls,
    /// The mean of all tokens, the class token's among them (SArena, StarVector; assumed for CTRL-S).
    Mean,
}

/// How bytes become the input of a network that compares pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PictureInput {
    /// 0..1, as RLRF feeds it.
    Unit,
    /// -1..1, as the lpips package asks for.
    Signed,
    /// ImageNet's means and deviations, as SArena feeds it.
    Imagenet,
}
