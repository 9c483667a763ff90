//! Adapters in PEFT's layout, read: what would change the numbers in a way that is not built is refused by
//! its key, and tensors that no layer has a place for by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tch::Tensor;

use super::base::{CONFIG, WEIGHTS, adapter_base};
use super::config::{LoraConfig, LoraTargets};
use super::layout::module_name;
use super::peft::PREFIX;
use crate::ModelError;
use crate::json_section::read_object;
use crate::params::{ParamSpec, ParamTable};
use crate::tensor_file::read_tensors;

/// Keys of adapter_config.json that must be off, and what they would do. Besides these, whatever begins with `use_` or
/// ends with `_config` must be.
const OFF: [(&str, &str); 10] = [
    ("use_dora", "DoRA is not built"),
    ("lora_bias", "adapters with biases are not built"),
    ("fan_in_fan_out", "transposed weights are not built"),
    (
        "modules_to_save",
        "whole layers that are saved beside adapters are not built",
    ),
    (
        "rank_pattern",
        "ranks that differ between layers are not built",
    ),
    (
        "alpha_pattern",
        "alphas that differ between layers are not built",
    ),
    (
        "trainable_token_indices",
        "tokens that learn beside adapters are not built",
    ),
    (
        "target_parameters",
        "adapters on bare parameters are not built",
    ),
    ("layer_replication", "replicated layers are not built"),
    ("alora_invocation_tokens", "activated LoRA is not built"),
];

/// Those of the latter that say nothing of the numbers, or are read.
const READ: [&str; 3] = ["use_rslora", "eva_config", "megatron_config"];

/// Initialisations of PEFT's that leave the base as it is.
const HARMLESS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// A folder with an adapter.
#[derive(Debug)]
pub(crate) struct PeftFolder {
    path: PathBuf,
    /// The folder of its base.
    pub(crate) base: PathBuf,
    /// What its description says; targets are the layers that have tensors.
    pub(crate) lora: LoraConfig,
    /// By transformers' names, without PEFT's prefix.
    tensors: BTreeMap<String, Tensor>,
}

impl PeftFolder {
    /// Reads `folder`, whose layers' names may begin as the first of each of `prefixes`.
    ///
    /// # Errors
    /// A key that asks for something else, by name; tensors that are none of LoRA's, by name; a base that is not
    /// there.
    pub(crate) fn read(folder: &Path, prefixes: Prefixes) -> Result<Self, ModelError> {
        let base = adapter_base(folder).map_err(ModelError::Folder)?;
        let path = folder.join(CONFIG);
        let config = read_object(&path)?;
        let mut lora = described(&path, &config)?;
        let weights = folder.join(WEIGHTS);
        if !weights.exists() {
            let reason = "is not there, and adapters are read from safetensors; in Python, PeftModel.from_pretrained(BASE, DIR).save_pretrained(OUT) writes it";
            return Err(ModelError::malformed(&weights, reason));
        }
        let (mut tensors, mut unknown) = (BTreeMap::new(), Vec::new());
        let mut modules = BTreeSet::new();
        for (name, tensor) in read_tensors(&weights)? {
            let Some((module, matrix)) = taken_apart(&name) else {
                unknown.push(name);
                continue;
            };
            let module = module_name(module, prefixes);
            tensors.insert(format!("{module}.lora_{matrix}.weight"), tensor);
            modules.insert(module);
        }
        if !unknown.is_empty() {
            let reason = format!("unknown tensors: {}", unknown.join(", "));
            return Err(ModelError::Tensors {
                path: weights,
                reason,
            });
        }
        lora.targets = LoraTargets::Names(modules.into_iter().collect());
        Ok(Self {
            path: weights,
            base,
            lora,
            tensors,
        })
    }

    /// Fills the adapters of `params`.
    ///
    /// # Errors
    /// Missing, misshapen or left tensors, and numbers that are not finite, by name.
    pub(crate) fn fill(mut self, params: &ParamTable) -> Result<(), ModelError> {
        let mut faults = Vec::new();
        for spec in params.adapters().iter().flat_map(|one| [&one.a, &one.b]) {
            faults.extend(self.take(params, spec));
        }
        let left: Vec<String> = self.tensors.into_keys().collect();
        if !left.is_empty() {
            faults.push(format!("unknown tensors: {}", left.join(", ")));
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(ModelError::Tensors {
                path: self.path,
                reason: faults.join("; "),
            }),
        }
    }

    fn take(&mut self, params: &ParamTable, spec: &ParamSpec) -> Option<String> {
        let name = &spec.name;
        let Some(tensor) = self.tensors.remove(name) else {
            return Some(format!("missing tensor: {name}"));
        };
        if tensor.size() != spec.shape {
            let (size, shape) = (tensor.size(), &spec.shape);
            return Some(format!(
                "{name} has shape {size:?}, rank and layer ask for {shape:?}"
            ));
        }
        if tensor.isfinite().all().int64_value(&[]) == 0 {
            return Some(format!("{name} has numbers that are not finite"));
        }
        tch::no_grad(|| params.view(spec).copy_(&tensor));
        None
    }
}

/// How names may begin, and what transformers has in place of it.
type Prefixes = &'static [(&'static str, &'static str)];

/// Layer and matrix (`A` or `B`) of a tensor's name, with or without PEFT's prefix and the adapter's name.
fn taken_apart(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let (module, rest) = name.split_once(".lora_")?;
    let (matrix, rest) = rest.split_once('.')?;
    let plain = rest == "weight"
        || rest
            .strip_suffix(".weight")
            .is_some_and(|own| !own.contains('.'));
    (["A", "B"].contains(&matrix) && plain).then_some((module, matrix))
}

fn described(path: &Path, config: &Map<String, Value>) -> Result<LoraConfig, ModelError> {
    let bad = |key: &str, reason: String| Err(ModelError::unsupported(path, key, reason));
    let value = |key: &str| config.get(key).filter(|value| !value.is_null());
    if let Some(kind) = value("peft_type").filter(|kind| *kind != "LORA") {
        return bad(
            "peft_type",
            format!("only \"LORA\" is supported, got {kind}"),
        );
    }
    for (key, value) in config {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(all) => all.is_empty(),
            Value::Object(all) => all.is_empty(),
            _ => false,
        };
        let known = OFF.iter().find(|(known, _)| known == key);
        let kind = key.starts_with("use_") || key.ends_with("_config");
        match known {
            _ if off => {}
            Some((_, why)) => return bad(key, (*why).into()),
            None if kind && !READ.contains(&key.as_str()) => {
                return bad(key, "is not built".into());
            }
            None => {}
        }
    }
    if let Some(bias) = value("bias").filter(|bias| *bias != "none") {
        return bad("bias", format!("only \"none\" is supported, got {bias}"));
    }
    if let Some(Value::String(word)) = value("init_lora_weights")
        && !HARMLESS.contains(&word.as_str())
    {
        let reason = format!(
            "\"{word}\" may have changed the base's weights; in PEFT, save_pretrained with path_initial_model_for_weight_conversion writes a plain adapter"
        );
        return bad("init_lora_weights", reason);
    }
    let number = |key: &str, default: f64| match value(key) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| {
            ModelError::unsupported(path, key, format!("must be a number, got {value}"))
        }),
    };
    let lora = LoraConfig {
        rank: number("r", 8.0)? as i64,
        alpha: number("lora_alpha", 8.0)?,
        dropout: number("lora_dropout", 0.0)?,
        rslora: value("use_rslora") == Some(&Value::Bool(true)),
        ..LoraConfig::default()
    };
    match lora.check() {
        Ok(()) => Ok(lora),
        Err(reason) => bad("r, lora_alpha, lora_dropout", reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_with_and_without_prefix_and_adapter() {
        let layer = "model.layers.0.self_attn.q_proj";
        for name in [
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
        ] {
            assert_eq!(taken_apart(name), Some((layer, "A")), "{name}");
        }
        for name in [
            "base_model.model.model.embed_tokens.lora_embedding_A",
            "base_model.model.model.layers.0.q_proj.lora_magnitude_vector",
            "base_model.model.model.layers.0.q_proj.lora_A.bias",
            "base_model.model.model.layers.0.q_proj.lora_C.weight",
            "base_model.model.lm_head.modules_to_save.weight",
        ] {
            assert_eq!(taken_apart(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_key() {
        let said = |text: &str| {
            let config: Value = serde_json::from_str(text).unwrap();
            let config = config.as_object().unwrap();
            described(Path::new("a.json"), config).map_err(|error| error.to_string())
        };
        let plain = said(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true, "rank_pattern": {}, "bias": "none"}"#).unwrap();
        assert_eq!((plain.rank, plain.alpha, plain.rslora), (4, 8.0, true));
        for (text, key) in [
            (r#"{"peft_type": "IA3"}"#, "peft_type"),
            (r#"{"use_dora": true}"#, "use_dora: DoRA is not built"),
            (r#"{"modules_to_save": ["lm_head"]}"#, "modules_to_save"),
            (r#"{"rank_pattern": {"q_proj": 2}}"#, "rank_pattern"),
            (r#"{"bias": "all"}"#, "bias"),
            (
                r#"{"kasa_config": {"beta": 1}}"#,
                "kasa_config: is not built",
            ),
            (r#"{"init_lora_weights": "pissa"}"#, "init_lora_weights"),
            (r#"{"r": 0}"#, "rank: must be >= 1"),
        ] {
            assert!(said(text).unwrap_err().contains(key), "{text}");
        }
    }
}
