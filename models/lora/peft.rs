//! Adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::Tensor;

use super::base::{CONFIG, WEIGHTS};
use super::config::{LoraConfig, is_called};
use crate::ModelError;
use crate::params::ParamTable;
use crate::tensor_file::{host_copy, write_tensors, write_text};

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

/// What PEFT's two files are written from.
pub(crate) struct AdapterExport {
    config: String,
    /// By PEFT's names, in the kind that they learn in.
    tensors: Vec<(String, Tensor)>,
}

impl AdapterExport {
    /// Of the adapters of `params`, which must be in memory and stay as they are until [`Self::write`].
    pub(crate) fn of(params: &ParamTable, adapters: &Adapters) -> Self {
        let all = params.adapters();
        let adapted: Vec<&str> = all.iter().map(|adapter| adapter.module.as_str()).collect();
        let text = serde_json::to_string_pretty(&description(adapters, &adapted));
        let specs = all.iter().flat_map(|adapter| [&adapter.a, &adapter.b]);
        let named = specs.map(|spec| (format!("{PREFIX}{}", spec.name), params.view(spec)));
        Self {
            config: text.expect("JSON values serialise"),
            tensors: named.collect(),
        }
    }

    /// The same with numbers of its own in the host's memory.
    pub(crate) fn copied(self) -> Self {
        let copies = self.tensors.into_iter().map(|(name, tensor)| {
            let copy = host_copy(&tensor, tensor.kind());
            (name, copy)
        });
        Self {
            tensors: copies.collect(),
            ..self
        }
    }

    /// Writes them in PEFT's layout beside what `folder` holds; equal numbers give equal bytes.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), ModelError> {
        write_text(&folder.join(CONFIG), &format!("{}\n", self.config))?;
        write_tensors(&folder.join(WEIGHTS), &self.tensors)
    }
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
