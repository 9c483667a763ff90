//! A vision tower's shape, and how each family calls its tensors.

use serde_json::Value;

use super::layers::NormKind;
use crate::ModelError;
use crate::architecture::Architecture;
use crate::image::{Processor, TowerFamily, TowerInput};
use crate::json_section::Keys;
use crate::layers::Activation;

/// Families of vision-language models, by `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFamily {
    /// Qwen3-VL, dense.
    Qwen3Vl,
    /// Qwen2.5-VL.
    Qwen25Vl,
    /// InternVL3 as transformers has it.
    InternVl,
    /// InternVL3 as first published, with its own code.
    InternVlChat,
}

/// What a checkpoint calls its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightNaming {
    /// A language model alone.
    Text,
    /// `model.language_model`, `model.visual` or `model.vision_tower`, `lm_head`.
    Nested,
    /// Older Qwen2.5-VL: `model`, `visual`, `lm_head`.
    Flat,
    /// Older InternVL of transformers: `language_model.model`, `vision_tower`.
    Split,
    /// InternVL as first published: `language_model.model`, `vision_model`, `mlp1`.
    Chat,
}

impl WeightNaming {
    /// What stands before the decoder's `embed_tokens`, `layers` and `norm`.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Text | Self::Flat => "model",
            Self::Nested => "model.language_model",
            Self::Split | Self::Chat => "language_model.model",
        }
    }

    /// The head's matrix.
    pub(crate) fn head(self) -> &'static str {
        match self {
            Self::Text | Self::Flat | Self::Nested => "lm_head.weight",
            Self::Split | Self::Chat => "language_model.lm_head.weight",
        }
    }

    /// How tensors' names begin in the layouts of transformers' networks, and how their modules are called in memory,
    /// which is what adapters' names are made of. The code that came with InternVL has its own names.
    pub(crate) fn module_prefixes(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Text | Self::Chat => &[],
            Self::Nested | Self::Flat | Self::Split => &[
                ("language_model.model.", "model.language_model."),
                ("model.layers.", "model.language_model.layers."),
                ("visual.", "model.visual."),
                ("vision_tower.", "model.vision_tower."),
                ("multi_modal_projector.", "model.multi_modal_projector."),
            ],
        }
    }

    /// The layout that a folder with these tensors has, for a network of `vision`.
    pub(crate) fn detect<'a>(
        vision: &VisionNetwork,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut has = |prefix: &str| names.any(|name| name.starts_with(prefix));
        match vision {
            VisionNetwork::InternVl(intern) if intern.chat => Self::Chat,
            VisionNetwork::InternVl(_) if has("language_model.") => Self::Split,
            VisionNetwork::Qwen25Vl { .. } | VisionNetwork::Qwen3Vl { .. } if has("visual.") => {
                Self::Flat
            }
            _ => Self::Nested,
        }
    }
}

impl ModelFamily {
    /// The family of a file, if it is no plain language model.
    pub(crate) fn of(keys: &Keys) -> Result<Option<Self>, ModelError> {
        Ok(match keys.value("model_type").and_then(Value::as_str) {
            Some("qwen3_vl") => Some(Self::Qwen3Vl),
            Some("qwen2_5_vl") => Some(Self::Qwen25Vl),
            Some("internvl") => Some(Self::InternVl),
            Some("internvl_chat") => Some(Self::InternVlChat),
            _ => None,
        })
    }

    /// The decoder behind it, where that is always the same one.
    pub(crate) fn decoder(self) -> Option<Architecture> {
        match self {
            Self::Qwen3Vl => Some(Architecture::Qwen3),
            Self::Qwen25Vl => Some(Architecture::Qwen2),
            Self::InternVl | Self::InternVlChat => None,
        }
    }

    /// Whether pictures count in rows and columns.
    pub(crate) fn has_three_positions(self) -> bool {
        matches!(self, Self::Qwen3Vl | Self::Qwen25Vl)
    }

    pub(crate) fn default_sections(self) -> [usize; 3] {
        match self {
            Self::Qwen3Vl => [24, 20, 20],
            _ => [16, 24, 24],
        }
    }

    pub(crate) fn default_theta(self) -> f64 {
        match self {
            Self::Qwen3Vl => 500_000.0,
            Self::Qwen25Vl => 1_000_000.0,
            Self::InternVl | Self::InternVlChat => 10_000.0,
        }
    }
}

/// A vision tower.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Which network, with what only it has.
    pub network: VisionNetwork,
    /// Number of blocks.
    pub depth: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward.
    pub intermediate_size: i64,
    /// Attention heads.
    pub num_heads: i64,
    /// Side of a patch, in pixels.
    pub patch_size: i64,
    /// Patches along each side that become one token.
    pub merge: i64,
    /// Tokens about pictures.
    pub tokens: ImageTokens,
}

/// A tower to be declared: its shape, and what it must know of the decoder behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TowerBefore<'a> {
    pub(crate) config: &'a VisionConfig,
    pub(crate) names: WeightNaming,
    /// Width of the decoder's residual stream.
    pub(crate) out: i64,
}

impl VisionConfig {
    /// The tower before a decoder that is `out` wide.
    pub(crate) fn before(&self, names: WeightNaming, out: i64) -> TowerBefore<'_> {
        TowerBefore {
            config: self,
            names,
            out,
        }
    }

    /// Width of a head.
    pub(crate) fn head_dim(&self) -> i64 {
        self.hidden_size / self.num_heads
    }

    /// Width of the patches of a square, joined.
    pub(crate) fn joined(&self) -> i64 {
        self.hidden_size * self.merge * self.merge
    }

    /// What the processor before it must know.
    pub(crate) fn input(&self) -> TowerInput {
        TowerInput {
            family: match &self.network {
                VisionNetwork::Qwen3Vl { .. } | VisionNetwork::Qwen25Vl { .. } => TowerFamily::Qwen,
                VisionNetwork::InternVl(intern) => TowerFamily::InternVl {
                    side: intern.image_size,
                    chat: intern.chat,
                },
            },
            patch_size: self.patch_size,
            merge: self.merge,
            image_token: self.tokens.image,
        }
    }
}

/// A tower and how pictures become its input.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionSetup {
    /// The tower.
    pub tower: VisionConfig,
    /// What pictures go through before it.
    pub processor: Processor,
}

/// Tokens about pictures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageTokens {
    /// The one that stands for a piece of a picture.
    pub image: i64,
    /// All that a completion must never hold: image, video and the markers around them.
    pub suppress: Vec<i64>,
}

/// Which vision network.
#[derive(Debug, Clone, PartialEq)]
pub enum VisionNetwork {
    /// Qwen3-VL.
    Qwen3Vl {
        /// Rows of the learned positions, a square.
        positions: i64,
        /// Blocks whose output is merged for DeepStack.
        taps: Vec<i64>,
        /// Of the feed-forward.
        activation: Activation,
    },
    /// Qwen2.5-VL.
    Qwen25Vl {
        /// Side of an attention window, in pixels.
        window: i64,
        /// Blocks that attend over the whole picture.
        whole: Vec<i64>,
        /// Of the feed-forward.
        activation: Activation,
    },
    /// InternViT.
    InternVl(InternVit),
}

/// InternViT's own settings.
#[derive(Debug, Clone, PartialEq)]
pub struct InternVit {
    /// Whether it is the layout as first published.
    pub chat: bool,
    /// Side of a tile, in pixels.
    pub image_size: i64,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether q and k are normed over all heads.
    pub qk_norm: bool,
    /// The blocks' norms.
    pub norm: NormKind,
    /// Their epsilon.
    pub norm_eps: f64,
    /// Whether a norm follows the last block.
    pub final_norm: bool,
    /// Of the feed-forward.
    pub activation: Activation,
}

impl VisionNetwork {
    /// The names that transformers writes today.
    pub(crate) fn names(&self) -> WeightNaming {
        match self {
            Self::InternVl(intern) if intern.chat => WeightNaming::Chat,
            _ => WeightNaming::Nested,
        }
    }
}
