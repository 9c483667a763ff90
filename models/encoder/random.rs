//! Encoders of published shapes with random weights: for measuring, and for runs that only try the
//! machinery. Their features mean nothing.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind};

use super::clip::Clip;
use super::dinov2::Dinov2;
use super::section::Section;
use super::text::TextTokens;
use super::towers::Towers;
use super::{Encoder, Network};
use crate::ModelError;
use crate::weights::Weights;

/// A published shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RandomShape {
    /// DINOv2 base: 12 blocks of width 768, patches of 14, pictures of 224 pixels.
    Dinov2Base,
    /// Long-CLIP L/14: 24 vision blocks of width 1024, 12 text blocks of width 768, 248 positions, texts by bytes.
    LongClipLarge,
}

impl Encoder {
    /// A network of `shape` with weights drawn anew from libtorch's generator.
    ///
    /// # Errors
    /// libtorch's, for lack of memory for instance.
    pub fn random(shape: RandomShape, place: (Kind, Device)) -> Result<Self, ModelError> {
        let weights = Weights::random(place);
        let (network, tokens) = match shape {
            RandomShape::Dinov2Base => {
                // The numbers that are absent are the base's.
                let config = Section::of(json!({"image_size": 518}));
                (Network::Dinov2(Dinov2::load(None, &config, weights)?), None)
            }
            RandomShape::LongClipLarge => {
                let config = Section::of(json!({
                    "projection_dim": 768,
                    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "max_position_embeddings": 248},
                    "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14},
                }));
                let network = Clip::load(None, &config, Towers::Both, weights)?;
                let tokens = network.rules.map(TextTokens::of_bytes).transpose()?;
                (Network::Clip(network), tokens)
            }
        };
        Ok(Self {
            network,
            tokens,
            path: PathBuf::from("random weights"),
            place,
        })
    }
}
