//! Which of two towers a folder of CLIP or SigLIP holds: both, or one alone, whose configuration is then the
//! whole file and whose tensors may lack the tower's name (transformers 5 leaves it out).

use super::section::Section;
use crate::ModelError;
use crate::weights::Weights;

/// The towers of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towers {
    Both,
    Vision,
    Text,
}

impl Towers {
    /// Whether pictures are encoded.
    pub fn see(self) -> bool {
        self != Self::Text
    }

    /// Whether texts are encoded.
    pub fn read(self) -> bool {
        self != Self::Vision
    }

    /// The part of `config` under `key`, or all of it where it is one tower's; what it then says of the other
    /// tower means nothing.
    pub fn section(self, config: &Section, key: &str) -> Result<Section, ModelError> {
        match self {
            Self::Both => config.inner(key),
            Self::Vision | Self::Text => Ok(config.clone()),
        }
    }

    /// Gives the tensors of a tower alone the names they have beside the other one.
    pub fn name(self, weights: &mut Weights) {
        let prefix = match self {
            Self::Both => return,
            Self::Vision => "vision_model.",
            Self::Text => "text_model.",
        };
        weights.rename(|name| match name {
            "visual_projection.weight" | "text_projection.weight" => name.to_owned(),
            _ if name.starts_with(prefix) => name.to_owned(),
            _ => format!("{prefix}{name}"),
        });
    }
}
