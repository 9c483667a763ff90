//! The configuration of encoders (`encoders.NAME`).

use crate::device::DeviceChoice;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The encoders of a run, and where those compute that do not say.
#[derive(Clone, Debug, Default)]
pub struct EncoderSet {
    /// By their names.
    pub encoders: IndexMap<String, EncoderConfig>,
    /// What `auto` stands for in their sections; where that is `auto` too, the CPU.
    pub device: DeviceChoice,
}

/// What an encoder computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncoderDtype {
    /// 32-bit floats.
    #[default]
    Float32,
    /// 16-bit floats: cosines within a thousandth of float32's.
    Float16,
    /// Refused: 16-bit brain floats move cosines by several thousandths.
    Bfloat16,
}

/// How pictures are brought to an encoder's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preprocess {
    /// As the folder's preprocessor_config.json says.
    #[default]
    Folder,
    /// As torchvision's Resize (bilinear) and CenterCrop to the network's side do it; for DINOv2 as SGP-RL feeds it.
    Torchvision,
}

/// A shape of random weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncoderInit {
    /// DINOv2 base.
    Dinov2Base,
    /// Long-CLIP L/14, texts by bytes.
    LongClipLarge,
}

/// A network that rewards refer to by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// Its folder in Hugging Face layout (DINOv2, CLIP, SigLIP, XLM-RoBERTa; of CLIP and SigLIP one tower alone where a
    /// reward needs no more), the folder of LPIPS' or DreamSim's files, or the original checkpoint of Long-CLIP;
    /// relative to the config's folder.
    pub path: PathBuf,
    /// Random weights of a published shape in place of `path`: for measuring and for trying a config. Its features mean nothing.
    pub init: Option<EncoderInit>,
    /// `auto` (where the policy computes), `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// What it computes in.
    pub dtype: EncoderDtype,
    /// Items of a forward pass; 0 chooses: 4 pictures or 1 text on the CPU, 32 on a GPU. A pass always has this many
    /// rows, so that an item's feature does not depend on how many others were at hand; 1 answers a lone request soonest.
    pub batch: usize,
    /// `true`: the weights lie in host memory while the learner works and come back for the next rollout. For encoders
    /// on a GPU alone: on the CPU there is nothing to gain.
    pub offload: bool,
    /// How pictures are brought to size.
    pub preprocess: Preprocess,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        EncoderConfig {
            path: PathBuf::new(),
            init: None,
            device: "auto".into(),
            dtype: EncoderDtype::default(),
            batch: 0,
            offload: false,
            preprocess: Preprocess::default(),
        }
    }
}

impl EncoderConfig {
    /// The first value out of bounds, as `key: rule, got value`.
    pub fn validate(&self) -> Result<(), String> {
        match (self.path.as_os_str().is_empty(), self.init) {
            (true, None) => return Err("path: is needed: the encoder's folder or file".into()),
            (false, Some(_)) => return Err("init: excludes `path`".into()),
            _ => {}
        }
        let device: DeviceChoice = self.device.parse()?;
        if self.dtype == EncoderDtype::Bfloat16 {
            return Err("dtype: bfloat16 keeps eight bits, which moves cosines by several thousandths; use float16, which keeps them within one (or float32)".into());
        }
        if self.offload && device == DeviceChoice::Cpu {
            return Err(on_cpu());
        }
        if self.batch > 4096 {
            return Err(format!("batch: must be <= 4096, got {}", self.batch));
        }
        Ok(())
    }
}

/// Why an encoder of the CPU cannot be offloaded.
pub(crate) fn on_cpu() -> String {
    "offload: the encoder computes on the CPU, whose memory its weights lie in already (leave offload out, or put the encoder on a GPU by `device`)".into()
}
