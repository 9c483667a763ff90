//! Rewards that networks judge: similarity of pictures, of a picture and its text, of texts. Here are
//! their options and the formulas; the networks run in [`crate::encode`].

use crate::config::reward_options;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a cosine is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The cosine itself, -1..1.
    Raw,
    /// `(cosine + 1) / 2`, 0..1.
    Rescaled,
}

impl Scale {
    /// The cosine on this scale.
    pub(crate) fn of(self, cosine: f64) -> f64 {
        match self {
            Scale::Raw => cosine,
            Scale::Rescaled => (cosine + 1.0) / 2.0,
        }
    }
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

/// How bytes become LPIPS' input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LpipsScale {
    /// 0..1, as RLRF feeds it.
    Unit,
    /// -1..1, as the lpips package asks for.
    Signed,
    /// ImageNet's means and deviations, as SArena feeds it.
    Imagenet,
}

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

reward_options! {
    /// Cosine of the picture's feature and that of its text (`reference.text`, else the prompt) by CLIP,
    /// Long-CLIP or SigLIP.
    ImageText (clip None) {
        /// Name of the encoder under `encoders`.
        encoder: String = String::new(),
        /// `raw`: the cosine (CTRL-S); `rescaled`: (cosine + 1) / 2 (SGP-RL).
        scale: Scale = Scale::Raw,
    }
}

reward_options! {
    /// RLRF's `1 - 2 LPIPS`, cut to -1..1, both pictures resized to a square by Pillow's bicubic filter.
    Lpips (clip Some([-1.0, 1.0])) {
        /// Name of the encoder under `encoders`: a folder with the trunk's and the lpips package's files.
        encoder: String = String::new(),
        /// Pixels of the square's side, at least 32.
        size: u32 = 256,
        /// `unit` (RLRF), `signed` (the package) or `imagenet` (SArena).
        input: LpipsScale = LpipsScale::Unit,
        /// Compare dilated Canny edges instead of the pictures.
        canny: bool = false,
    }
}

reward_options! {
    /// RLRF's `1 - 2 DreamSim`: the distance is one less the cosine of the ensemble's features.
    DreamSim (clip None) {
        /// Name of the encoder under `encoders`: the dreamsim package's cache folder.
        encoder: String = String::new(),
        /// Compare dilated Canny edges instead of the pictures.
        canny: bool = false,
    }
}

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

/// RLRF's reward of a distance.
pub(crate) fn of_distance(distance: f64) -> f64 {
    1.0 - 2.0 * distance
}

/// The cosine of two vectors of unit length, in float64.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&x, &y)| f64::from(x) * f64::from(y))
        .sum()
}
