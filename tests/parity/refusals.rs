//! Faulty folders: the error names every tensor and the key.

use std::path::Path;

use models::{load_folder, read_tensors, write_tensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::support::{fixture, network_folder};

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
        ("layer_types", json!(["full_attention"]), "layer_types"),
        ("layer_types", json!("full_attention"), "layer_types"),
        ("rope_parameters", json!("yarn"), "rope_parameters"),
        (
            "rope_parameters",
            json!({"rope_type": 3}),
            "rope_parameters.rope_type",
        ),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_type": "default", "rope_theta": 5e3}}),
            "rope_parameters.full_attention",
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

/// What reading a folder of tests/parity/vlm says with `value` put at the dotted `key` of one of its files.
fn with_vision(name: &str, (file, key): (&str, &str), value: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("parity/vlm").join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let (section, key) = key.rsplit_once('.').unwrap_or(("", key));
    let holder = match section {
        "" => &mut config,
        section => &mut config[section],
    };
    holder[key] = value.clone();
    std::fs::write(&path, config.to_string()).unwrap();
    error(folder.path())
}

#[test]
fn towers_of_impossible_shapes_are_refused_by_name() {
    const CONFIG: &str = "config.json";
    const PROCESSOR: &str = "preprocessor_config.json";
    let cases = [
        ("qwen3_vl", CONFIG, "vision_config", json!([])),
        ("qwen3_vl", CONFIG, "vision_config.patch_size", json!(0)),
        ("qwen3_vl", CONFIG, "vision_config.patch_size", json!(-4)),
        ("qwen3_vl", CONFIG, "vision_config.num_heads", json!(3)),
        ("qwen3_vl", CONFIG, "vision_config.num_heads", json!(8)),
        ("qwen3_vl", CONFIG, "vision_config.hidden_size", json!("16")),
        ("qwen3_vl", CONFIG, "vision_config.hidden_size", json!(1e18)),
        (
            "qwen3_vl",
            CONFIG,
            "vision_config.hidden_size",
            json!(9_000_000_000_000_000_000i64),
        ),
        (
            "qwen3_vl",
            CONFIG,
            "vision_config.num_position_embeddings",
            json!(17),
        ),
        (
            "qwen3_vl",
            CONFIG,
            "vision_config.deepstack_visual_indexes",
            json!([0, 3]),
        ),
        (
            "qwen3_vl",
            CONFIG,
            "vision_config.deepstack_visual_indexes",
            json!([-1]),
        ),
        (
            "qwen3_vl",
            CONFIG,
            "vision_config.deepstack_visual_indexes",
            json!([1, 0]),
        ),
        (
            "qwen3_vl",
            CONFIG,
            "vision_config.deepstack_visual_indexes",
            json!("all"),
        ),
        (
            "qwen3_vl",
            CONFIG,
            "vision_config.temporal_patch_size",
            json!(1),
        ),
        ("qwen3_vl", CONFIG, "image_token_id", json!(40)),
        ("qwen3_vl", CONFIG, "image_token_id", json!("36")),
        ("qwen3_vl", CONFIG, "text_config", json!(null)),
        ("qwen3_vl", PROCESSOR, "patch_size", json!(14)),
        ("qwen3_vl", PROCESSOR, "merge_size", json!(3)),
        ("qwen3_vl", PROCESSOR, "image_std", json!([0.5, 0.0, 0.5])),
        ("qwen3_vl", PROCESSOR, "image_mean", json!([0.5])),
        ("qwen3_vl", PROCESSOR, "do_normalize", json!(false)),
        ("qwen3_vl", PROCESSOR, "resample", json!(1)),
        ("qwen2_5_vl", CONFIG, "vision_config.window_size", json!(4)),
        (
            "qwen2_5_vl",
            CONFIG,
            "vision_config.fullatt_block_indexes",
            json!([7]),
        ),
        (
            "qwen2_5_vl_older",
            PROCESSOR,
            "min_pixels",
            json!(1_000_000),
        ),
        (
            "internvl",
            CONFIG,
            "vision_config.image_size",
            json!([16, 32]),
        ),
        ("internvl", CONFIG, "vision_config.image_size", json!(18)),
        (
            "internvl",
            CONFIG,
            "vision_config.norm_type",
            json!("batch_norm"),
        ),
        ("internvl", CONFIG, "downsample_ratio", json!(0.3)),
        ("internvl", CONFIG, "vision_feature_layer", json!(-2)),
        ("internvl_chat", CONFIG, "ps_version", json!("v1")),
        ("internvl_chat", CONFIG, "force_image_size", json!(32)),
        ("internvl_chat", CONFIG, "max_dynamic_patch", json!(0)),
        ("internvl_chat", CONFIG, "llm_config", json!({})),
    ];
    for (name, file, key, value) in cases {
        let error = with_vision(name, (file, key), &value);
        let named = key.rsplit('.').next().unwrap();
        let own = error.contains(&format!("{file}: ")) && error.contains(named);
        // A decoder that is not there is said of what is missing in it.
        assert!(own || key == "llm_config", "{name} {key} {value}: {error}");
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
    let start = "unknown tensors: model.layers.0.self_attn.q_proj.bias (model.ignore";
    assert!(unknown.starts_with(start), "{unknown}");
}

#[test]
fn a_stored_head_that_differs_from_its_tied_matrix_is_refused() {
    let error = with_tensors(|tensors| {
        let (_, matrix) = tensors
            .iter()
            .find(|(name, _)| name == "model.embed_tokens.weight")
            .unwrap();
        let head = ("lm_head.weight".into(), matrix * 2.0);
        tensors.push(head);
    });
    assert!(
        error.contains("lm_head.weight differs from model.embed_tokens.weight"),
        "{error}"
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
