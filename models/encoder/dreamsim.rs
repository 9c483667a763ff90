//! DreamSim's ensemble (arXiv 2306.09344), after the `dreamsim` package: DINO, CLIP and OpenCLIP with
//! patches of 16, each fine-tuned by low-rank updates, their features side by side, centred and of unit
//! length. The distance of two pictures is one less the cosine.
//!
//! Read from the package's cache folder: `checkpoints/dino_vitbase16_pretrain.pth` (torch.hub's, or
//! beside the rest), `clip_vitb16_pretrain.pth.tar`, `open_clip_vitb16_pretrain.pth.tar`, `ensemble_lora`.
//! Each may be safetensors instead. Left out: the single models and the patch variants.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::block::{AttentionMask, EncoderBlock, LayerNorm, SelfAttention, patches, unit_rows};
use super::section::Section;
use super::to_device::each_tensor;
use crate::ModelError;
use crate::image::{CLIP, IMAGENET, ImageProcessor};
use crate::layers::Activation;
use crate::layers::reduce_kind;
use crate::linear::Linear;
use crate::tensor_file::NamedTensors;
use crate::weights::{self, Weights};

each_tensor! {
    DreamSim { members }
    Member { moments, cls, positions, patch, before, blocks, head }
}

/// The three networks and their processor.
#[derive(Debug)]
pub(super) struct DreamSim {
    pub(super) processor: ImageProcessor,
    members: Vec<Member>,
}

/// A vision transformer under timm's names.
#[derive(Debug)]
struct Member {
    /// Means and deviations `[1, 3, 1, 1]`.
    moments: [Tensor; 2],
    cls: Tensor,
    positions: Tensor,
    patch: Linear,
    /// CLIP's norm before the blocks.
    before: Option<LayerNorm>,
    blocks: Vec<EncoderBlock>,
    /// CLIP's norm behind them and its projection `[width, D]`; DINO's class token is taken as it is.
    head: Option<(LayerNorm, Tensor)>,
}

/// What tells the members apart.
struct MemberSpec {
    file: &'static str,
    eps: f64,
    activation: Activation,
    moments: [[f64; 3]; 2],
    clip: bool,
}

const MEMBERS: [MemberSpec; 3] = [
    MemberSpec {
        file: "dino_vitbase16_pretrain.pth",
        eps: 1e-6,
        activation: Activation::Gelu,
        moments: IMAGENET,
        clip: false,
    },
    MemberSpec {
        file: "clip_vitb16_pretrain.pth.tar",
        eps: 1e-5,
        activation: Activation::QuickGelu,
        moments: CLIP,
        clip: true,
    },
    MemberSpec {
        file: "open_clip_vitb16_pretrain.pth.tar",
        eps: 1e-5,
        activation: Activation::Gelu,
        moments: CLIP,
        clip: true,
    },
];

/// Width of a head in all three.
const HEAD: i64 = 64;
const LORA: &str = "ensemble_lora";

/// Whether a folder is such a cache.
pub(super) fn matches(folder: &Path) -> bool {
    folder.join(LORA).is_dir()
}

impl DreamSim {
    pub(super) fn load(folder: &Path, place: (Kind, Device)) -> Result<Self, ModelError> {
        let adapter = Adapter::read(&folder.join(LORA))?;
        let mut members = Vec::new();
        for (index, spec) in MEMBERS.iter().enumerate() {
            let path = find(folder, spec.file)?;
            let mut named = weights::read_file(&path)?;
            adapter.merge(index, &path, &mut named)?;
            members.push(Member::take(Weights::new(&path, named, place), spec)?);
        }
        adapter.finish(MEMBERS.len())?;
        Ok(Self {
            processor: ImageProcessor::square(224, svg::Filter::Bicubic, None),
            members,
        })
    }

    /// `pixels [N, 3, 224, 224]` in 0..1, in float32 at least, to `[N, D]`, centred and of unit length.
    pub(super) fn embed(&self, pixels: &Tensor) -> Tensor {
        let parts: Vec<Tensor> = self
            .members
            .iter()
            .map(|member| member.embed(pixels))
            .collect();
        let whole = Tensor::cat(&parts, 1);
        let mean = whole.mean_dim([1i64].as_slice(), true, None);
        unit_rows(&(whole - mean))
    }
}

/// A checkpoint by the package's name, in the folder or its `checkpoints`, or as safetensors.
fn find(folder: &Path, name: &str) -> Result<PathBuf, ModelError> {
    let stem = name.split('.').next().unwrap_or(name);
    let safe = format!("{stem}.safetensors");
    [
        folder.join(name),
        folder.join("checkpoints").join(name),
        folder.join(safe),
    ]
    .into_iter()
    .find(|path| path.exists())
    .ok_or_else(|| {
        ModelError::malformed(
            folder,
            format!("lacks {name} (also looked for in checkpoints/ and as {stem}.safetensors)"),
        )
    })
}

/// Low-rank updates `B A scale` of the members' matrices.
struct Adapter {
    path: PathBuf,
    named: NamedTensors,
    scale: f64,
}

impl Adapter {
    fn read(folder: &Path) -> Result<Self, ModelError> {
        let config = Section::read(&folder.join("adapter_config.json"))?;
        config.only("peft_type", serde_json::json!("LORA"))?;
        config.only("bias", serde_json::json!("none"))?;
        for flag in ["use_rslora", "use_dora", "fan_in_fan_out"] {
            config.only(flag, serde_json::json!(false))?;
        }
        let rank = config.int("r", 8)?;
        let scale = config.float("lora_alpha", 8.0)? / rank as f64;
        let safe = folder.join("adapter_model.safetensors");
        let path = if safe.exists() {
            safe
        } else {
            folder.join("adapter_model.bin")
        };
        Ok(Self {
            named: weights::read_file(&path)?,
            path,
            scale,
        })
    }

    fn prefix(member: usize) -> String {
        format!("base_model.model.extractor_list.{member}.model.")
    }

    /// Adds the updates of one member to its matrices, in float64.
    fn merge(
        &self,
        member: usize,
        path: &Path,
        named: &mut NamedTensors,
    ) -> Result<(), ModelError> {
        let fault = |reason: String| ModelError::Tensors {
            path: self.path.clone(),
            reason,
        };
        let prefix = Self::prefix(member);
        for (name, a) in &self.named {
            let Some(target) = name
                .strip_prefix(&prefix)
                .and_then(|rest| rest.strip_suffix(".lora_A.weight"))
            else {
                continue;
            };
            let b = self
                .named
                .get(&format!("{prefix}{target}.lora_B.weight"))
                .ok_or_else(|| fault(format!("missing tensors: {prefix}{target}.lora_B.weight")))?;
            let plain = format!("{target}.weight");
            let nested = format!("state_dict.{plain}");
            let key = if named.contains_key(&nested) {
                nested
            } else {
                plain
            };
            let old = named.get(&key).ok_or_else(|| {
                fault(format!(
                    "{name} changes {key}, which {} lacks",
                    path.display()
                ))
            })?;
            let fits = a.dim() == 2
                && b.dim() == 2
                && a.size()[0] == b.size()[1]
                && old.size() == [b.size()[0], a.size()[1]];
            if !fits {
                return Err(fault(format!(
                    "{name} and its lora_B do not fit {key} of {:?}",
                    old.size()
                )));
            }
            let update = b.to_kind(Kind::Double).matmul(&a.to_kind(Kind::Double)) * self.scale;
            let new = old.to_kind(Kind::Double) + update;
            named.insert(key, new);
        }
        Ok(())
    }

    /// Reports updates of nothing that is here.
    fn finish(&self, members: usize) -> Result<(), ModelError> {
        let known = |name: &str| {
            (name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight"))
                && (0..members).any(|member| name.starts_with(&Self::prefix(member)))
        };
        let unknown: Vec<&str> = self
            .named
            .keys()
            .map(String::as_str)
            .filter(|name| !known(name))
            .collect();
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(ModelError::Tensors {
                path: self.path.clone(),
                reason: format!("unknown tensors: {}", unknown.join(", ")),
            }),
        }
    }
}

impl Member {
    fn take(mut weights: Weights, spec: &MemberSpec) -> Result<Self, ModelError> {
        weights.rename(|name| name.strip_prefix("state_dict.").unwrap_or(name).to_owned());
        let projection = weights
            .shape("patch_embed.proj.weight", 4)
            .filter(|shape| shape[0] % HEAD == 0)
            .unwrap_or(vec![768, 3, 16, 16]);
        let (width, patch) = (projection[0], *projection.last().unwrap_or(&16));
        let places = (224 / patch).pow(2) + 1;
        let depth = (0..)
            .take_while(|i| weights.has(&format!("blocks.{i}.norm1.weight")))
            .count();
        let embed = weights
            .shape("proj", 2)
            .and_then(|shape| shape.last().copied())
            .unwrap_or(512);
        let inner = weights
            .shape("blocks.0.mlp.fc1.weight", 2)
            .map_or(4 * width, |shape| shape[0]);
        let (kind, device) = weights.place();
        let moments = spec.moments.map(|row| {
            Tensor::from_slice(&row)
                .to_kind(reduce_kind(kind))
                .to_device(device)
                .view([1, 3, 1, 1])
        });
        let blocks = (0..depth.max(1)).map(|index| {
            let name = |part: &str| format!("blocks.{index}.{part}");
            EncoderBlock {
                norm1: LayerNorm::take(&mut weights, &name("norm1"), width, spec.eps),
                attention: SelfAttention {
                    qkv: Linear::take(&mut weights, &name("attn.qkv"), [3 * width, width], true),
                    out: Linear::take(&mut weights, &name("attn.proj"), [width, width], true),
                    heads: (width / HEAD).max(1),
                },
                norm2: LayerNorm::take(&mut weights, &name("norm2"), width, spec.eps),
                fc1: Linear::take(&mut weights, &name("mlp.fc1"), [inner, width], true),
                fc2: Linear::take(&mut weights, &name("mlp.fc2"), [width, inner], true),
                activation: spec.activation,
            }
        });
        let blocks = blocks.collect();
        let made = Self {
            moments,
            cls: weights.wide("cls_token", &[1, 1, width]),
            positions: weights.wide("pos_embed", &[1, places, width]),
            patch: Linear {
                weight: weights.wide("patch_embed.proj.weight", &[width, 3, patch, patch]),
                bias: Some(weights.wide("patch_embed.proj.bias", &[width])),
            },
            before: spec
                .clip
                .then(|| LayerNorm::take(&mut weights, "pos_drop", width, spec.eps)),
            blocks,
            head: spec.clip.then(|| {
                let norm = LayerNorm::take(&mut weights, "norm", width, spec.eps);
                (norm, weights.wide("proj", &[width, embed]))
            }),
        };
        // DINO's last norm stands behind the tokens that are taken.
        weights.finish(|name| !spec.clip && name.starts_with("norm."))?;
        Ok(made)
    }

    fn embed(&self, pixels: &Tensor) -> Tensor {
        let [mean, deviation] = &self.moments;
        let pixels = (pixels - mean) / deviation;
        let rows = patches(&pixels, &self.patch.weight, self.patch.bias.as_ref());
        let cls = self.cls.expand([rows.size()[0], 1, -1], false);
        let x = Tensor::cat(&[&cls, &rows], 1) + &self.positions;
        let x = match &self.before {
            Some(norm) => norm.forward(&x),
            None => x,
        };
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(&x, AttentionMask::Full));
        let first = x.select(1, 0);
        match &self.head {
            Some((norm, projection)) => norm.forward(&first).matmul(projection),
            None => first,
        }
    }
}
