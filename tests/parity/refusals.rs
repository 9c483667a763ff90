//! Faulty folders: the error names every tensor and the key.

use std::path::Path;

use models::{load_folder, read_tensors, write_tensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::support::network_folder;

fn error(folder: &Path) -> String {
    match load_folder(folder, Kind::Float, Device::Cpu) {
        Ok(_) => panic!("the folder was accepted"),
        Err(error) => error.to_string(),
    }
}

/// What reading qwen3_tied says with `edits` made to its config.json.
fn with_config(edits: &[(&str, Value)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let from = network_folder("qwen3_tied");
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in edits {
        config[*key] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(
        from.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    error(folder.path())
}

/// What reading qwen3_tied says with its list of tensors edited.
fn with_tensors(edit: impl FnOnce(&mut Vec<(String, Tensor)>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let from = network_folder("qwen3_tied");
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut tensors = read_tensors(&from.join("model.safetensors"))
        .unwrap()
        .into_iter()
        .collect();
    edit(&mut tensors);
    write_tensors(&folder.path().join("model.safetensors"), &tensors).unwrap();
    error(folder.path())
}

#[test]
fn keys_that_ask_for_another_network_are_refused_by_name() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0});
    let cases = [
        ("rope_scaling", yarn.clone(), "rope_scaling.rope_type"),
        (
            "rope_scaling",
            json!({"type": "linear", "factor": 2.0}),
            "rope_scaling.rope_type",
        ),
        ("rope_parameters", yarn, "rope_parameters.rope_type"),
        ("use_sliding_window", json!(true), "use_sliding_window"),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "layer_types",
        ),
        ("hidden_act", json!("gelu"), "hidden_act"),
        ("attention_bias", json!(true), "attention_bias"),
        ("model_type", json!("llama"), "model_type"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        (
            "quantization_config",
            json!({"bits": 4}),
            "quantization_config",
        ),
        ("dtype", json!("int8"), "dtype"),
        ("vocab_size", json!("64"), "vocab_size"),
    ];
    for (key, value, named) in cases {
        let error = with_config(&[(key, value)]);
        assert!(
            error.contains(&format!("config.json: {named}: ")),
            "{key}: {error}"
        );
    }
}

#[test]
fn missing_and_unknown_tensors_are_all_named() {
    let error = with_tensors(|tensors| {
        tensors.retain(|(name, _)| !name.ends_with("k_norm.weight"));
        tensors.push((
            "model.layers.0.self_attn.q_proj.bias".into(),
            Tensor::zeros([24], (Kind::Float, Device::Cpu)),
        ));
    });
    let [missing, unknown] = error.split("; ").collect::<Vec<_>>()[..] else {
        panic!("{error}")
    };
    assert!(missing.ends_with("missing tensors: model.layers.0.self_attn.k_norm.weight, model.layers.1.self_attn.k_norm.weight"), "{missing}");
    assert_eq!(
        unknown,
        "unknown tensors: model.layers.0.self_attn.q_proj.bias"
    );
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let error = with_tensors(|tensors| {
        let norm = tensors
            .iter_mut()
            .find(|(name, _)| name == "model.norm.weight")
            .unwrap();
        norm.1 = Tensor::ones([8], (Kind::Float, Device::Cpu));
    });
    assert!(
        error.contains("model.norm.weight has shape [8], config.json asks for [16]"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_cut_short_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let from = network_folder("qwen3_tied");
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    std::fs::write(
        folder.path().join("model.safetensors"),
        &bytes[..bytes.len() / 2],
    )
    .unwrap();
    assert!(error(folder.path()).contains("model.safetensors: "));
}
