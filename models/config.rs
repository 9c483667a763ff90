//! `config.json` of a Hugging Face folder, typed.
//!
//! Both layouts are read: the older one (`rope_theta`, `rope_scaling`, `torch_dtype`) and that of
//! transformers 5 (`rope_parameters`, `dtype`). A key that would change the network in a way this
//! crate does not build is refused by name; keys that only matter to other software are kept
//! for export and otherwise ignored.

use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Kind;

use crate::ModelError;
use crate::architecture::{Architecture, AttentionBias, DefaultHeadDim};
use crate::json_section::{Keys, read_object};
use crate::vision::{ModelFamily, VisionSetup, WeightNaming};

/// The shape of a dense Qwen decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Family.
    pub architecture: Architecture,
    /// Rows of the embedding matrix.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward.
    pub intermediate_size: i64,
    /// Number of blocks.
    pub num_layers: i64,
    /// Query heads.
    pub num_heads: i64,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: i64,
    /// Width of a head.
    pub head_dim: i64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f64,
    /// Standard deviation of a fresh matrix.
    pub initializer_range: f64,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Longest sequence the model was made for.
    pub max_positions: i64,
    /// The kind its checkpoint is stored in.
    pub kind: Kind,
    /// Which of three positions each rotary frequency turns by, `[head_dim / 2]`; empty for
    /// networks with plain positions.
    pub rope_axes: Vec<i64>,
    /// The tower that sees pictures, where there is one.
    pub vision: Option<VisionSetup>,
    /// What the checkpoint calls its tensors.
    pub names: WeightNaming,
    /// The file's own keys, written back on export.
    pub source: Map<String, Value>,
}

/// How many heads of what width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadCounts {
    /// Query heads.
    pub(crate) q: i64,
    /// Key and value heads.
    pub(crate) kv: i64,
    /// Width of a head.
    pub(crate) dim: i64,
}

impl DecoderConfig {
    /// Reads `folder/config.json`.
    ///
    /// # Errors
    /// A missing or malformed file, and every key that asks for another network, by name.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let source = read_object(&path)?;
        let whole = Keys {
            path: &path,
            map: &source,
        };
        let family = ModelFamily::of(&whole)?;
        let keys = Keys {
            path: &path,
            map: text_section(&whole, family)?,
        };
        let architecture = architecture(&keys, family)?;
        refuse_other_networks(&keys, architecture)?;
        let hidden_size = keys.need("hidden_size")?;
        let num_heads = keys.need("num_attention_heads")?;
        let num_kv_heads = keys.int("num_key_value_heads")?.unwrap_or(num_heads);
        if num_heads % num_kv_heads != 0 {
            return Err(keys.bad(
                "num_key_value_heads",
                format!("must divide num_attention_heads {num_heads}, got {num_kv_heads}"),
            ));
        }
        let head_dim = match (keys.int("head_dim")?, architecture.traits().head_dim) {
            (Some(dim), _) | (None, DefaultHeadDim::Fixed(dim)) => dim,
            (None, DefaultHeadDim::Share) => hidden_size / num_heads,
        };
        if head_dim % 2 != 0 {
            return Err(keys.bad("head_dim", format!("must be even, got {head_dim}")));
        }
        let rope_theta = rope_theta(&keys, family)?;
        let kind = stored_kind(&whole)?;
        let mut vision = family
            .map(|family| VisionSetup::read(&whole, family, folder))
            .transpose()?;
        let vocab_size = keys.need("vocab_size")?;
        let num_layers = keys.need("num_hidden_layers")?;
        if let Some(setup) = &mut vision {
            setup.tower.check_decoder(&whole, vocab_size, num_layers)?;
            // Markers that a folder leaves at their defaults may be none of its ids.
            setup.tower.tokens.suppress.retain(|id| *id < vocab_size);
        }
        Ok(Self {
            architecture,
            vocab_size,
            hidden_size,
            intermediate_size: keys.need("intermediate_size")?,
            num_layers,
            num_heads,
            num_kv_heads,
            head_dim,
            rope_theta,
            rms_norm_eps: keys.float("rms_norm_eps", 1e-6)?,
            initializer_range: keys.float("initializer_range", 0.02)?,
            tied: tied(&whole, &keys, family)?,
            max_positions: keys.int("max_position_embeddings")?.unwrap_or(32_768),
            kind,
            rope_axes: rope_axes(&keys, family, head_dim)?,
            names: vision
                .as_ref()
                .map_or(WeightNaming::Text, |setup| setup.tower.network.names()),
            vision,
            source: source.clone(),
        })
    }

    pub(crate) fn head_counts(&self) -> HeadCounts {
        HeadCounts {
            q: self.num_heads,
            kv: self.num_kv_heads,
            dim: self.head_dim,
        }
    }

    /// The `config.json` of this network with weights stored as `kind`, readable by transformers
    /// of both layouts. Keys this crate does not know are carried over from the source.
    pub fn export(&self, kind: Kind) -> Value {
        if self.vision.is_some() {
            return self.export_with_vision(kind);
        }
        let mut map = self.source.clone();
        let traits = self.architecture.traits();
        let name = kind_name(kind);
        let known = json!({
            "architectures": [traits.class],
            "model_type": traits.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope_theta,
            "torch_dtype": name,
        });
        if let Value::Object(known) = known {
            map.extend(known);
        }
        if map.contains_key("rope_parameters") {
            map["rope_parameters"] = json!({"rope_type": "default", "rope_theta": self.rope_theta});
        }
        if map.contains_key("dtype") {
            map["dtype"] = json!(name);
        }
        Value::Object(map)
    }

    /// The file as it was read, with the size of the vocabulary and the kind set anew.
    fn export_with_vision(&self, kind: Kind) -> Value {
        let mut map = self.source.clone();
        for key in ["dtype", "torch_dtype"] {
            if map.contains_key(key) {
                map[key] = json!(kind_name(kind));
            }
        }
        let section = ["text_config", "llm_config"]
            .into_iter()
            .find(|key| map.get(*key).is_some_and(Value::is_object));
        let text = match section.and_then(|key| map.get_mut(key)) {
            Some(Value::Object(text)) => text,
            _ => &mut map,
        };
        text.insert("vocab_size".into(), json!(self.vocab_size));
        for key in ["dtype", "torch_dtype"] {
            if text.contains_key(key) {
                text[key] = json!(kind_name(kind));
            }
        }
        Value::Object(map)
    }
}

/// The object that describes the language model.
fn text_section<'a>(
    whole: &Keys<'a>,
    family: Option<ModelFamily>,
) -> Result<&'a Map<String, Value>, ModelError> {
    let key = match family {
        None => return Ok(whole.map),
        Some(ModelFamily::InternVlChat) => "llm_config",
        Some(_) => "text_config",
    };
    match whole.map.get(key) {
        Some(Value::Object(map)) => Ok(map),
        // Older Qwen2.5-VL files have no section for it.
        None if family == Some(ModelFamily::Qwen25Vl) => Ok(whole.map),
        _ => Err(whole.bad(key, "must be an object")),
    }
}

fn architecture(keys: &Keys, family: Option<ModelFamily>) -> Result<Architecture, ModelError> {
    if let Some(decoder) = family.and_then(ModelFamily::decoder) {
        return Ok(decoder);
    }
    let name = keys
        .value("model_type")
        .and_then(Value::as_str)
        .ok_or_else(|| keys.bad("model_type", "is missing"))?;
    Architecture::of_model_type(name).ok_or_else(|| {
        keys.bad(
            "model_type",
            format!(
                "`{name}` is not supported; qwen2, qwen3, qwen2_5_vl, qwen3_vl, internvl and internvl_chat are"
            ),
        )
    })
}

/// Files of vision-language models say it at the top, some in the section alone. Of Qwen2.5-VL's two flags either
/// suffices (transformers 5).
fn tied(whole: &Keys, text: &Keys, family: Option<ModelFamily>) -> Result<bool, ModelError> {
    let default = match family {
        Some(ModelFamily::InternVl) => true,
        Some(_) => text.flag("tie_word_embeddings", false)?,
        None => false,
    };
    let said = whole.flag("tie_word_embeddings", default)?;
    Ok(said || (default && family == Some(ModelFamily::Qwen25Vl)))
}

/// Sections of the frequencies by time, row and column: one after the other in Qwen2.5-VL,
/// interleaved in Qwen3-VL.
fn rope_axes(
    keys: &Keys,
    family: Option<ModelFamily>,
    head_dim: i64,
) -> Result<Vec<i64>, ModelError> {
    let Some(family) = family.filter(|family| family.has_three_positions()) else {
        return Ok(Vec::new());
    };
    let half = (head_dim / 2) as usize;
    let listed = ["rope_parameters", "rope_scaling"]
        .into_iter()
        .find_map(|name| {
            keys.value(name)?
                .get("mrope_section")
                .and_then(Value::as_array)
        });
    let sections: Vec<usize> = match listed {
        None => family.default_sections().to_vec(),
        Some(listed) => listed
            .iter()
            .map(|part| part.as_u64().unwrap_or(0) as usize)
            .collect(),
    };
    if sections.len() != 3 || sections.iter().sum::<usize>() != half {
        return Err(keys.bad(
            "rope_scaling.mrope_section",
            format!("must be three numbers that add up to head_dim / 2 = {half}, got {sections:?}"),
        ));
    }
    let mut axes = vec![0; half];
    match family {
        ModelFamily::Qwen3Vl => {
            for axis in [1, 2] {
                for at in (axis..(3 * sections[axis]).min(half)).step_by(3) {
                    axes[at] = axis as i64;
                }
            }
        }
        _ => {
            axes[sections[0]..sections[0] + sections[1]].fill(1);
            axes[sections[0] + sections[1]..].fill(2);
        }
    }
    Ok(axes)
}

fn refuse_other_networks(keys: &Keys, architecture: Architecture) -> Result<(), ModelError> {
    if let Some(act) = keys.value("hidden_act").filter(|act| *act != "silu") {
        return Err(keys.bad(
            "hidden_act",
            format!("only \"silu\" is supported, got {act}"),
        ));
    }
    if keys.flag("use_sliding_window", false)? {
        return Err(keys.bad(
            "use_sliding_window",
            "sliding-window attention is not supported",
        ));
    }
    if let Some(types) = keys.value("layer_types") {
        let layers = keys.need("num_hidden_layers")?;
        let reason = match types.as_array() {
            None => Some(format!("must be a list, got {types}")),
            Some(list) => match list.iter().find(|kind| *kind != "full_attention") {
                Some(other) => Some(format!("only \"full_attention\" is supported, got {other}")),
                None if list.len() as i64 != layers => Some(format!(
                    "must name each of the {layers} layers, got {}",
                    list.len()
                )),
                None => None,
            },
        };
        if let Some(reason) = reason {
            return Err(keys.bad("layer_types", reason));
        }
    }
    match architecture.traits().attention_bias {
        AttentionBias::Unread => {}
        AttentionBias::Refused => {
            if keys.flag("attention_bias", false)? {
                return Err(keys.bad(
                    "attention_bias",
                    "biases in Qwen3's attention are not supported",
                ));
            }
        }
    }
    if keys
        .value("attention_dropout")
        .and_then(Value::as_f64)
        .is_some_and(|rate| rate != 0.0)
    {
        return Err(keys.bad(
            "attention_dropout",
            "must be 0: training here has no dropout",
        ));
    }
    if keys.value("quantization_config").is_some() {
        return Err(keys.bad(
            "quantization_config",
            "quantised checkpoints are not supported",
        ));
    }
    Ok(())
}

fn rope_theta(keys: &Keys, family: Option<ModelFamily>) -> Result<f64, ModelError> {
    let default = family.map_or(10_000.0, ModelFamily::default_theta);
    for name in ["rope_scaling", "rope_parameters"] {
        let rope = match keys.value(name) {
            None => continue,
            Some(Value::Object(rope)) => rope,
            Some(other) => return Err(keys.bad(name, format!("must be an object, got {other}"))),
        };
        if let Some((kind, _)) = rope.iter().find(|(_, value)| value.is_object()) {
            return Err(keys.bad(
                &format!("{name}.{kind}"),
                "a rotary embedding of its own for each kind of layer is not supported",
            ));
        }
        let kind = match rope.get("rope_type").or_else(|| rope.get("type")) {
            None | Some(Value::Null) => None,
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(other) => {
                let reason = format!("must be a word, got {other}");
                return Err(keys.bad(&format!("{name}.rope_type"), reason));
            }
        };
        // Qwen2.5-VL's older files name its three-part positions here. InternVL's dynamic scaling
        // begins beyond max_position_embeddings (32,768), further than any of its prompts.
        let known = |kind: &&str| match *kind {
            "default" => true,
            "mrope" => family.is_some_and(ModelFamily::has_three_positions),
            "dynamic" => matches!(
                family,
                Some(ModelFamily::InternVl | ModelFamily::InternVlChat)
            ),
            _ => false,
        };
        if let Some(other) = kind.filter(|kind| !known(kind)) {
            return Err(keys.bad(
                &format!("{name}.rope_type"),
                format!("only \"default\" is supported, got \"{other}\""),
            ));
        }
        let inner = Keys {
            path: keys.path,
            map: rope,
        };
        if rope.contains_key("rope_theta") {
            return inner.float("rope_theta", default);
        }
    }
    keys.float("rope_theta", default)
}

fn stored_kind(keys: &Keys) -> Result<Kind, ModelError> {
    let name = keys.value("dtype").or_else(|| keys.value("torch_dtype"));
    match name.and_then(Value::as_str) {
        None | Some("float32") => Ok(Kind::Float),
        Some("bfloat16") => Ok(Kind::BFloat16),
        Some("float16") => Ok(Kind::Half),
        Some("float64") => Ok(Kind::Double),
        Some(other) => Err(keys.bad("dtype", format!("`{other}` is not a floating type"))),
    }
}

/// PyTorch's name of a floating kind.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        Kind::Double => "float64",
        _ => "float32",
    }
}
