//! What config.json says of a vision tower.

use std::path::Path;

use serde_json::{Map, Value};

use super::config::{
    ImageTokens, InternVit, ModelFamily, VisionConfig, VisionNetwork, VisionSetup,
};
use super::layers::NormKind;
use crate::ModelError;
use crate::image::Processor;
use crate::json_section::{Keys, read_object};
use crate::layers::Activation;

impl VisionSetup {
    pub(crate) fn read(
        whole: &Keys,
        family: ModelFamily,
        folder: &Path,
    ) -> Result<Self, ModelError> {
        let Some(Value::Object(section)) = whole.map.get("vision_config") else {
            return Err(whole.bad("vision_config", "must be an object"));
        };
        let keys = Keys {
            path: whole.path,
            map: section,
        };
        let config = match family {
            ModelFamily::Qwen3Vl => qwen3_vl(&keys)?,
            ModelFamily::Qwen25Vl => qwen2_5_vl(&keys)?,
            ModelFamily::InternVl | ModelFamily::InternVlChat => intern_vl(whole, &keys, family)?,
        };
        if config.hidden_size % config.num_heads != 0 {
            return Err(keys.bad(
                "num_heads",
                format!(
                    "must divide hidden_size {}, got {}",
                    config.hidden_size, config.num_heads
                ),
            ));
        }
        config.check(&keys)?;
        let tokens = image_tokens(whole, family, folder)?;
        let tower = VisionConfig { tokens, ..config };
        let processor = Processor::read(folder, tower.input(), whole)?;
        Ok(Self { tower, processor })
    }
}

fn list(keys: &Keys, key: &str, default: &[i64]) -> Result<Vec<i64>, ModelError> {
    match keys.value(key) {
        None => Ok(default.to_vec()),
        Some(value) => value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_i64).collect())
            .ok_or_else(|| keys.bad(key, format!("must be a list of integers, got {value}"))),
    }
}

/// A number, or a list of equal numbers for the sides.
fn side(keys: &Keys, key: &str, default: i64) -> Result<i64, ModelError> {
    if keys.value(key).is_some_and(Value::is_array) {
        let sides = list(keys, key, &[])?;
        return match sides.as_slice() {
            [first, rest @ ..] if *first > 0 && rest.iter().all(|side| side == first) => Ok(*first),
            _ => Err(keys.bad(key, format!("must be one positive side, got {sides:?}"))),
        };
    }
    Ok(keys.int(key)?.unwrap_or(default))
}

fn activation(keys: &Keys, default: Activation) -> Result<Activation, ModelError> {
    match keys.value("hidden_act").map(|name| name.as_str()) {
        None => Ok(default),
        Some(Some("gelu")) => Ok(Activation::Gelu),
        Some(Some("gelu_pytorch_tanh")) => Ok(Activation::GeluTanh),
        Some(Some("silu")) => Ok(Activation::Silu),
        Some(_) => Err(keys.bad(
            "hidden_act",
            "only gelu, gelu_pytorch_tanh and silu are supported",
        )),
    }
}

fn only(keys: &Keys, key: &str, value: i64) -> Result<(), ModelError> {
    match side(keys, key, value)? {
        got if got == value => Ok(()),
        got => Err(keys.bad(key, format!("only {value} is supported, got {got}"))),
    }
}

fn qwen3_vl(keys: &Keys) -> Result<VisionConfig, ModelError> {
    only(keys, "temporal_patch_size", 2)?;
    only(keys, "in_channels", 3)?;
    let positions = keys.int("num_position_embeddings")?.unwrap_or(2304);
    if positions.isqrt().pow(2) != positions {
        return Err(keys.bad(
            "num_position_embeddings",
            format!("must be a square, got {positions}"),
        ));
    }
    Ok(VisionConfig {
        network: VisionNetwork::Qwen3Vl {
            positions,
            taps: list(keys, "deepstack_visual_indexes", &[8, 16, 24])?,
            activation: activation(keys, Activation::GeluTanh)?,
        },
        depth: keys.int("depth")?.unwrap_or(27),
        hidden_size: keys.int("hidden_size")?.unwrap_or(1152),
        intermediate_size: keys.int("intermediate_size")?.unwrap_or(4304),
        num_heads: keys.int("num_heads")?.unwrap_or(16),
        patch_size: side(keys, "patch_size", 16)?,
        merge: keys.int("spatial_merge_size")?.unwrap_or(2),
        tokens: ImageTokens::default(),
    })
}

fn qwen2_5_vl(keys: &Keys) -> Result<VisionConfig, ModelError> {
    only(keys, "temporal_patch_size", 2)?;
    // Older files say in_chans, as Qwen2-VL's did.
    only(keys, "in_channels", 3)?;
    only(keys, "in_chans", 3)?;
    Ok(VisionConfig {
        network: VisionNetwork::Qwen25Vl {
            window: keys.int("window_size")?.unwrap_or(112),
            whole: list(keys, "fullatt_block_indexes", &[7, 15, 23, 31])?,
            activation: activation(keys, Activation::Silu)?,
        },
        depth: keys.int("depth")?.unwrap_or(32),
        hidden_size: keys.int("hidden_size")?.unwrap_or(3584),
        intermediate_size: keys.int("intermediate_size")?.unwrap_or(3420),
        num_heads: keys.int("num_heads")?.unwrap_or(16),
        patch_size: side(keys, "patch_size", 14)?,
        merge: keys.int("spatial_merge_size")?.unwrap_or(2),
        tokens: ImageTokens::default(),
    })
}

fn intern_vl(whole: &Keys, keys: &Keys, family: ModelFamily) -> Result<VisionConfig, ModelError> {
    let chat = family == ModelFamily::InternVlChat;
    let ratio = whole.float("downsample_ratio", 0.5)?;
    let merge = (1.0 / ratio).round() as i64;
    if (merge as f64 * ratio - 1.0).abs() > 1e-9 {
        return Err(whole.bad(
            "downsample_ratio",
            format!("must be 1 over an integer, got {ratio}"),
        ));
    }
    let (layer_key, layer) = match chat {
        true => ("select_layer", -1),
        false => ("vision_feature_layer", -1),
    };
    if whole
        .value(layer_key)
        .is_some_and(|value| value.as_i64() != Some(layer))
    {
        return Err(whole.bad(layer_key, "only the last layer (-1) is supported"));
    }
    if chat
        && whole
            .value("ps_version")
            .is_some_and(|version| version != "v2")
    {
        return Err(whole.bad("ps_version", "only \"v2\" is supported"));
    }
    let norm = match keys.value("norm_type").and_then(Value::as_str) {
        None | Some("layer_norm") => NormKind::Layer,
        Some("rms_norm") => NormKind::Rms,
        Some(other) => {
            return Err(keys.bad(
                "norm_type",
                format!("must be layer_norm or rms_norm, got {other}"),
            ));
        }
    };
    let (bias, qk_norm) = match chat {
        true => ("qkv_bias", "qk_normalization"),
        false => ("attention_bias", "use_qk_norm"),
    };
    let intern = InternVit {
        chat,
        image_size: side(keys, "image_size", 448)?,
        qkv_bias: keys.flag(bias, false)?,
        qk_norm: keys.flag(qk_norm, false)?,
        norm,
        norm_eps: keys.float("layer_norm_eps", 1e-6)?,
        final_norm: !chat && !keys.flag("use_mean_pooling", true)?,
        activation: activation(keys, Activation::Gelu)?,
    };
    if let Some(forced) = whole.int("force_image_size")?.filter(|_| chat)
        && forced != intern.image_size
    {
        return Err(whole.bad(
            "force_image_size",
            format!(
                "must be vision_config.image_size {}, got {forced} (learned positions are not stretched here)",
                intern.image_size
            ),
        ));
    }
    let patch_size = side(keys, "patch_size", 14)?;
    if intern.image_size % (patch_size * merge) != 0 {
        return Err(keys.bad(
            "image_size",
            format!(
                "must be a multiple of {} pixels, got {}",
                patch_size * merge,
                intern.image_size
            ),
        ));
    }
    Ok(VisionConfig {
        network: VisionNetwork::InternVl(intern),
        depth: keys.int("num_hidden_layers")?.unwrap_or(24),
        hidden_size: keys.int("hidden_size")?.unwrap_or(1024),
        intermediate_size: keys.int("intermediate_size")?.unwrap_or(4096),
        num_heads: keys.int("num_attention_heads")?.unwrap_or(16),
        patch_size,
        merge,
        tokens: ImageTokens::default(),
    })
}

/// Qwen's ids stand in config.json; of InternVL only the placeholder's does, and not in its first
/// layout: the rest are looked up among the tokenizer's added tokens.
fn image_tokens(
    whole: &Keys,
    family: ModelFamily,
    folder: &Path,
) -> Result<ImageTokens, ModelError> {
    if family.has_three_positions() {
        let id = |key: &str, default: i64| -> Result<i64, ModelError> {
            Ok(keys_id(whole, key)?.unwrap_or(default))
        };
        let image = id("image_token_id", 151_655)?;
        let suppress = vec![
            image,
            id("video_token_id", 151_656)?,
            id("vision_start_token_id", 151_652)?,
            id("vision_end_token_id", 151_653)?,
        ];
        return Ok(ImageTokens { image, suppress });
    }
    let added = added_tokens(folder)?;
    let image = match keys_id(whole, "image_token_id")? {
        Some(id) => id,
        None if family == ModelFamily::InternVl => 151_667,
        None => *added.get("<IMG_CONTEXT>").unwrap_or(&151_667),
    };
    let others = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"];
    let mut suppress = vec![image];
    suppress.extend(
        others
            .iter()
            .filter_map(|name| added.get(*name))
            .filter(|id| **id != image),
    );
    Ok(ImageTokens { image, suppress })
}

fn keys_id(keys: &Keys, key: &str) -> Result<Option<i64>, ModelError> {
    match keys.value(key) {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            Some(id) if id >= 0 => Ok(Some(id)),
            _ => Err(keys.bad(key, format!("must be a token id, got {value}"))),
        },
    }
}

/// Token ids by text, from whichever tokenizer file the folder has.
fn added_tokens(folder: &Path) -> Result<std::collections::BTreeMap<String, i64>, ModelError> {
    let mut found = std::collections::BTreeMap::new();
    let read = |name: &str| -> Result<Option<Map<String, Value>>, ModelError> {
        let path = folder.join(name);
        path.exists().then(|| read_object(&path)).transpose()
    };
    if let Some(map) = read("added_tokens.json")? {
        found.extend(
            map.iter()
                .filter_map(|(text, id)| Some((text.clone(), id.as_i64()?))),
        );
    }
    let config = read("tokenizer_config.json")?.unwrap_or_default();
    if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
        found.extend(decoder.iter().filter_map(|(id, token)| {
            Some((token.get("content")?.as_str()?.to_owned(), id.parse().ok()?))
        }));
    }
    let file = read("tokenizer.json")?.unwrap_or_default();
    if let Some(Value::Array(tokens)) = file.get("added_tokens") {
        found.extend(tokens.iter().filter_map(|token| {
            Some((
                token.get("content")?.as_str()?.to_owned(),
                token.get("id")?.as_i64()?,
            ))
        }));
    }
    Ok(found)
}
