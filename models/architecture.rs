//! The decoder families that are built, and in what they differ: adding one is a row of
//! [`Architecture::traits`] and whatever the compiler asks for then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The decoder families that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: RMS norms on the heads of q and k, no biases.
    Qwen3,
}

/// In what a family differs from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArchitectureTraits {
    /// `model_type` in config.json.
    pub(crate) model_type: &'static str,
    /// transformers' class.
    pub(crate) class: &'static str,
    /// Whether q, k and v have biases.
    pub(crate) qkv_bias: bool,
    /// Whether config.json may ask for biases in attention; where not, that is refused.
    pub(crate) attention_bias: AttentionBias,
    /// Whether RMS norms run over each head of q and k.
    pub(crate) head_norms: bool,
    /// Width of a head where config.json names none.
    pub(crate) head_dim: DefaultHeadDim,
    /// Whether a fresh network may have a vision tower before it.
    pub(crate) fresh_vision: bool,
}

/// What the key `attention_bias` of config.json means for a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttentionBias {
    /// Nothing: transformers does not read it.
    Unread,
    /// Biases that are not built: it must be false.
    Refused,
}

/// Width of a head where config.json names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultHeadDim {
    /// `hidden_size / num_attention_heads`.
    Share,
    /// Always this.
    Fixed(i64),
}

impl Architecture {
    const ALL: [Self; 2] = [Self::Qwen2, Self::Qwen3];

    pub(crate) fn traits(self) -> ArchitectureTraits {
        match self {
            Self::Qwen2 => ArchitectureTraits {
                model_type: "qwen2",
                class: "Qwen2ForCausalLM",
                qkv_bias: true,
                attention_bias: AttentionBias::Unread,
                head_norms: false,
                head_dim: DefaultHeadDim::Share,
                fresh_vision: false,
            },
            Self::Qwen3 => ArchitectureTraits {
                model_type: "qwen3",
                class: "Qwen3ForCausalLM",
                qkv_bias: false,
                attention_bias: AttentionBias::Refused,
                head_norms: true,
                head_dim: DefaultHeadDim::Fixed(128),
                fresh_vision: true,
            },
        }
    }

    /// The family that calls itself so in config.json.
    pub(crate) fn of_model_type(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|family| family.traits().model_type == name)
    }
}
