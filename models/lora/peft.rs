//! Adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::base::{CONFIG, WEIGHTS};
use super::config::{LoraConfig, is_called};
use crate::ModelError;
use crate::params::ParamTable;
use crate::tensor_file::{write_tensors, write_text};

/// What PEFT puts before transformers' names.
pub(super) const PREFIX: &str = "base_model.model.";

/// The adapters of a network.
#[derive(Debug)]
pub struct Adapters {
    /// Which maps have one, and how they count.
    pub config: LoraConfig,
    /// The folder that holds the frozen weights beside them.
    pub base: PathBuf,
    /// What they began from, and what keys their dropout.
    pub(crate) seed: u64,
    /// Every linear map of the network, by transformers' name.
    pub(crate) modules: Vec<String>,
}

/// Writes the adapters of `params` in PEFT's layout beside what `folder` holds; equal numbers give equal bytes.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn write_adapter(
    params: &ParamTable,
    adapters: &Adapters,
    folder: &Path,
) -> Result<(), ModelError> {
    let adapted: Vec<&str> = params
        .adapters()
        .iter()
        .map(|adapter| adapter.module.as_str())
        .collect();
    let text = serde_json::to_string_pretty(&description(adapters, &adapted));
    let text = text.expect("JSON values serialise");
    write_text(&folder.join(CONFIG), &format!("{text}\n"))?;
    let tensors: Vec<_> = params
        .adapters()
        .iter()
        .flat_map(|adapter| [&adapter.a, &adapter.b])
        .map(|spec| (format!("{PREFIX}{}", spec.name), params.view(spec)))
        .collect();
    write_tensors(&folder.join(WEIGHTS), &tensors)
}

fn description(adapters: &Adapters, adapted: &[&str]) -> Value {
    let LoraConfig {
        rank,
        alpha,
        dropout,
        rslora,
        ..
    } = adapters.config;
    // Whole numbers stand as such: other readers take them for integers.
    let alpha = match alpha.fract() == 0.0 && alpha.abs() < 1e15 {
        true => json!(alpha as i64),
        false => json!(alpha),
    };
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": adapters.base.to_string_lossy(),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": target_modules(&adapters.modules, adapted),
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": rslora,
    })
}

/// Names by which PEFT finds the layers that are adapted and no other: the last parts where these say it, else the
/// whole names.
fn target_modules(all: &[String], adapted: &[&str]) -> Vec<String> {
    let last = |module: &&str| module.rsplit('.').next().unwrap_or_default().to_owned();
    let ends: BTreeSet<String> = adapted.iter().map(last).collect();
    let named = |module: &&String| ends.iter().any(|end| is_called(module, end));
    match all.iter().filter(named).count() == adapted.len() {
        true => ends.into_iter().collect(),
        false => adapted.iter().map(|module| (*module).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::target_modules;

    #[test]
    fn short_names_are_taken_where_they_mean_no_other_layer() {
        let all = ["text.0.q_proj", "text.0.up", "tower.0.qkv"].map(str::to_owned);
        assert_eq!(
            target_modules(&all, &["text.0.q_proj", "text.0.up"]),
            ["q_proj", "up"]
        );
        let all = ["text.0.up", "text.1.up", "tower.0.up"].map(str::to_owned);
        let adapted = ["text.0.up", "text.1.up"];
        assert_eq!(target_modules(&all, &adapted), adapted);
    }
}
