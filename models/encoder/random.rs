//! Encoders of published shapes with random weights: for measuring, and for runs that only try the
//! machinery. Their features mean nothing.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::clip::Clip;
use super::dinov2::Dinov2;
use super::section::Section;
use super::text::TextTokens;
use super::towers::Towers;
use super::{Encoder, Network};
use crate::ModelError;
use crate::tensor_file::write_tensors;
use crate::weights::{DrawnTensors, Weights};

/// A published shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RandomShape {
    /// DINOv2 base: 12 blocks of width 768, patches of 14, pictures of 224 pixels.
    Dinov2Base,
    /// Long-CLIP L/14: 24 vision blocks of width 1024, 12 text blocks of width 768, 248 positions, texts by bytes.
    LongClipLarge,
}

/// Random weights for the network that `config.json` of `folder` describes, as `model.safetensors` beside it; the same
/// for the same `seed`. What else the network reads (its processor's file) must be there.
///
/// # Errors
/// A configuration that is not built; whatever the file system says.
pub fn write_random_encoder(folder: &Path, seed: u64) -> Result<(), ModelError> {
    let _turn = torch_ext::seeded(seed);
    let drawn = DrawnTensors::default();
    let weights = Weights::random_kept((Kind::Float, Device::Cpu), &drawn);
    let network = Network::of_weights(folder, || Ok(weights))?;
    let mut tensors = drawn.take();
    tensors.extend(unused(&network, &tensors));
    write_tensors(&folder.join("model.safetensors"), &tensors)
}

/// What published folders hold besides and nothing here reads.
fn unused(network: &Network, tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let number = |name: &str, value: f64| (name.to_owned(), Tensor::full([], value, FLOAT));
    match network {
        Network::Dinov2(_) => {
            let class = tensors.iter().find(|(name, _)| name.ends_with("cls_token"));
            let width = class.and_then(|(_, class)| class.size().last().copied());
            let mask = Tensor::zeros([1, width.unwrap_or(1)], FLOAT);
            vec![("embeddings.mask_token".to_owned(), mask)]
        }
        Network::Clip(_) => vec![number("logit_scale", 2.6592)],
        Network::Siglip(_) => [("logit_scale", 2.3), ("logit_bias", -10.0)]
            .map(|(name, value)| (name.to_owned(), Tensor::full([1], value, FLOAT)))
            .into(),
        Network::XlmRoberta(network) => {
            let width = network.width() as i64;
            vec![
                ("pooler.dense.weight".to_owned(), Tensor::eye(width, FLOAT)),
                (
                    "pooler.dense.bias".to_owned(),
                    Tensor::zeros([width], FLOAT),
                ),
            ]
        }
        Network::DreamSim(_) | Network::Inception(_) => Vec::new(),
    }
}

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

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
