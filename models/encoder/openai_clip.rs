//! CLIP as OpenAI and Long-CLIP publish it: one torch state dict under OpenAI's names, query, key and
//! value in one matrix, and for Long-CLIP two tables of text positions. The shape is read off the
//! tensors.
//!
//! Long-CLIP (arXiv 2403.15378) keeps the first 20 positions of `positional_embedding` and takes the
//! rest from `positional_embedding_res`; both have all rows, so one table results. Texts are cleaned as OpenAI's
//! own tokenizer cleans them.

use std::path::Path;

use serde_json::Value;
use tch::Tensor;

use super::block::BlockShape;
use super::clip::{Clip, ClipShape};
use super::towers::Towers;
use crate::ModelError;
use crate::image::{CLIP, Centre, ImageProcessor};
use crate::json_section::read_object;
use crate::layers::Activation;
use crate::weights::Weights;

/// Positions that Long-CLIP leaves as they were.
const KEPT: i64 = 20;
/// Width of a head in every CLIP.
const HEAD: i64 = 64;

/// Whether these are the names of such a checkpoint.
pub(super) fn matches(weights: &Weights) -> bool {
    weights.has("visual.conv1.weight") && weights.has("token_embedding.weight")
}

/// Reads the towers out of `weights`; `heads` for tests on networks narrower than any real one.
pub(super) fn load(
    path: &Path,
    mut weights: Weights,
    head: Option<i64>,
) -> Result<Clip, ModelError> {
    if !weights.has("visual.class_embedding") {
        return Err(ModelError::malformed(
            path,
            "CLIP with a ResNet (visual.layer1 ..) is not supported; a vision transformer (ViT) is",
        ));
    }
    refuse_open_clip(path)?;
    let shape = shape(path, &weights, head.unwrap_or(HEAD))?;
    if let Some(rest) = weights.raw("positional_embedding_res") {
        let first = weights
            .raw("positional_embedding")
            .filter(|first| first.size() == rest.size() && first.size()[0] > KEPT)
            .ok_or_else(|| {
                ModelError::malformed(
                    path,
                    "positional_embedding and positional_embedding_res must have one shape",
                )
            })?;
        let table = Tensor::cat(
            &[
                first.narrow(0, 0, KEPT),
                rest.narrow(0, KEPT, rest.size()[0] - KEPT),
            ],
            0,
        );
        weights.put("positional_embedding", table);
    }
    split(&mut weights);
    for projection in ["text_projection", "visual.proj"] {
        // One of another shape is listed with the rest of what does not fit.
        if weights.shape(projection, 2).is_some()
            && let Some(matrix) = weights.raw(projection)
        {
            weights.put(projection, matrix.tr().contiguous());
        }
    }
    weights.rename(renamed);
    let side = shape.image as usize;
    let mut processor = ImageProcessor::cropping(side, side, CLIP);
    processor.centre = Centre::HalfEven;
    let mut made = Clip::take(&mut weights, &shape, Towers::Both, Some(processor));
    if let Some(rules) = &mut made.rules {
        rules.clean = true;
    }
    weights.finish(|name| {
        matches!(
            name,
            "logit_scale" | "input_resolution" | "context_length" | "vocab_size"
        )
    })?;
    Ok(made)
}

/// open_clip's checkpoints bear the same names, but most of its networks have another activation, which the
/// file beside them tells and the tensors do not.
fn refuse_open_clip(path: &Path) -> Result<(), ModelError> {
    let beside = path.with_file_name("open_clip_config.json");
    if !beside.exists() {
        return Ok(());
    }
    let config = read_object(&beside)?;
    let quick = config
        .get("model_cfg")
        .and_then(|own| own.get("quick_gelu"));
    match quick.and_then(Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(ModelError::unsupported(
            beside,
            "model_cfg.quick_gelu",
            "only true is supported: for open_clip's own networks use the folder in Hugging Face layout (config.json)",
        )),
    }
}

/// Queries, keys and values apart, as the Hugging Face layout has them.
fn split(weights: &mut Weights) {
    for tower in ["visual.transformer", "transformer"] {
        for index in 0.. {
            let prefix = format!("{tower}.resblocks.{index}.attn");
            let (weight, bias) = (
                format!("{prefix}.in_proj_weight"),
                format!("{prefix}.in_proj_bias"),
            );
            if weights.shape(&weight, 2).is_none() || weights.shape(&bias, 1).is_none() {
                break;
            }
            let (Some(weight), Some(bias)) = (weights.raw(&weight), weights.raw(&bias)) else {
                break;
            };
            for (part, (w, b)) in weight
                .chunk(3, 0)
                .into_iter()
                .zip(bias.chunk(3, 0))
                .enumerate()
            {
                weights.put(&format!("{prefix}.{part}.weight"), w);
                weights.put(&format!("{prefix}.{part}.bias"), b);
            }
        }
    }
}

/// The Hugging Face name of a tensor.
fn renamed(name: &str) -> String {
    let whole = match name {
        "visual.conv1.weight" => "vision_model.embeddings.patch_embedding.weight",
        "visual.class_embedding" => "vision_model.embeddings.class_embedding",
        "visual.positional_embedding" => "vision_model.embeddings.position_embedding.weight",
        "visual.proj" => "visual_projection.weight",
        "positional_embedding" => "text_model.embeddings.position_embedding.weight",
        "text_projection" => "text_projection.weight",
        _ => "",
    };
    if !whole.is_empty() {
        return whole.to_owned();
    }
    let mut name = name.to_owned();
    for (old, new) in [
        (
            "visual.transformer.resblocks.",
            "vision_model.encoder.layers.",
        ),
        ("transformer.resblocks.", "text_model.encoder.layers."),
        ("visual.ln_pre.", "vision_model.pre_layrnorm."),
        ("visual.ln_post.", "vision_model.post_layernorm."),
        ("ln_final.", "text_model.final_layer_norm."),
        ("token_embedding.", "text_model.embeddings.token_embedding."),
        (".attn.0.", ".self_attn.q_proj."),
        (".attn.1.", ".self_attn.k_proj."),
        (".attn.2.", ".self_attn.v_proj."),
        (".attn.", ".self_attn."),
        (".ln_1.", ".layer_norm1."),
        (".ln_2.", ".layer_norm2."),
        (".mlp.c_fc.", ".mlp.fc1."),
        (".mlp.c_proj.", ".mlp.fc2."),
    ] {
        match old.strip_prefix('.') {
            Some(_) => name = name.replace(old, new),
            None => {
                if let Some(rest) = name.strip_prefix(old) {
                    name = format!("{new}{rest}");
                }
            }
        }
    }
    name
}

fn shape(path: &Path, weights: &Weights, head: i64) -> Result<ClipShape, ModelError> {
    let size = |name: &str, dims: usize| {
        weights.shape(name, dims).ok_or_else(|| {
            ModelError::malformed(path, format!("lacks {name} of {dims} dimensions"))
        })
    };
    let layers = |tower: &str| {
        (0..)
            .take_while(|i| weights.has(&format!("{tower}.resblocks.{i}.ln_1.weight")))
            .count() as i64
    };
    let block = |width: i64, inner: i64| BlockShape {
        width,
        inner,
        heads: (width / head).max(1),
        eps: 1e-5,
        activation: Activation::QuickGelu,
    };
    let conv = size("visual.conv1.weight", 4)?;
    let whole = |name: &str, width: i64| match width < head || width % head == 0 {
        true => Ok(()),
        false => Err(ModelError::malformed(
            path,
            format!("{name}: a width of {width} has no whole number of heads of {head}"),
        )),
    };
    whole("visual.conv1.weight", conv[0])?;
    let patches = size("visual.positional_embedding", 2)?[0] - 1;
    let grid = (patches as f64).sqrt().round() as i64;
    let text = size("token_embedding.weight", 2)?;
    whole("token_embedding.weight", text[1])?;
    let inner = |tower: &str| {
        Ok::<i64, ModelError>(size(&format!("{tower}.resblocks.0.mlp.c_fc.weight"), 2)?[0])
    };
    Ok(ClipShape {
        vision: block(conv[0], inner("visual.transformer")?),
        vision_layers: layers("visual.transformer"),
        image: grid * conv[3],
        patch: conv[3],
        text: block(text[1], inner("transformer")?),
        text_layers: layers("transformer"),
        vocab: text[0],
        positions: size("positional_embedding", 2)?[0],
        embed: size("text_projection", 2)?[1],
        end: 2,
    })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::tensor_file::NamedTensors;
    use crate::weights::read_file;

    /// Shapes that nobody publishes are listed by name, never an error of libtorch.
    #[test]
    fn odd_tensors_are_refused_by_name() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/parity/encoders/longclip/longclip.pt");
        let whole = read_file(&path).unwrap();
        for (name, shape, told) in [
            ("transformer.resblocks.0.attn.in_proj_weight", &[][..], None),
            (
                "visual.transformer.resblocks.0.attn.in_proj_bias",
                &[3, 64],
                None,
            ),
            (
                "visual.proj",
                &[3, 2, 2],
                Some("visual_projection.weight has"),
            ),
            ("visual.conv1.weight", &[64, 3, 0, 0], None),
            ("visual.conv1.weight", &[100, 3, 8, 8], None),
            ("token_embedding.weight", &[40, 65], None),
        ] {
            let mut odd: NamedTensors = whole
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect();
            let zeros = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            odd.insert(name.to_owned(), zeros);
            let weights = Weights::new(&path, odd, (Kind::Float, Device::Cpu));
            let reason = load(&path, weights, None).unwrap_err().to_string();
            let told = told.unwrap_or(name);
            let own = renamed(told);
            assert!(
                reason.contains(told) || reason.contains(&own),
                "{told}: {reason}"
            );
        }
    }
}
