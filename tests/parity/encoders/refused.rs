//! Folders that are refused: by file and key, or with their tensors by name.

use models::encoder::Encoder;
use models::image::Rgb8;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::copy;

pub(super) fn refusal(path: &std::path::Path) -> String {
    match Encoder::load(path, (Kind::Float, Device::Cpu)) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{} was read", path.display()),
    }
}

/// Numbers that ask for more memory than there is, values of another kind, and pictures of less than a patch.
#[test]
fn settings_out_of_bounds_are_refused_by_key() {
    for (index, (name, file, key, value)) in [
        (
            "dinov2",
            "config.json",
            "num_hidden_layers",
            json!(1_000_000_000),
        ),
        (
            "dinov2",
            "config.json",
            "image_size",
            json!(10_000_000_000i64),
        ),
        ("dinov2", "config.json", "mlp_ratio", json!(1e300)),
        ("dinov2", "config.json", "hidden_act", json!(3)),
        (
            "bge_m3",
            "config.json",
            "max_position_embeddings",
            json!(1e12 as i64),
        ),
        (
            "dinov2",
            "preprocessor_config.json",
            "do_resize",
            json!("no"),
        ),
        ("dinov2", "preprocessor_config.json", "do_rescale", json!(0)),
        ("dinov2", "preprocessor_config.json", "crop_size", json!(0)),
        ("dinov2", "preprocessor_config.json", "crop_size", json!(13)),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = copy(name, &format!("encoder_bound_{index}"));
        let path = folder.join(file);
        let mut config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config[key] = value.clone();
        std::fs::write(&path, config.to_string()).unwrap();
        let reason = refusal(&folder);
        assert!(
            reason.contains(&format!("{file}: {key}: ")),
            "{key} {value}: {reason}"
        );
    }
}

#[test]
fn weights_that_are_not_finite_are_listed_by_name() {
    for (name, value) in [("nan", f64::NAN), ("infinite", f64::INFINITY)] {
        let folder = copy("dinov2", &format!("encoder_{name}"));
        let path = folder.join("model.safetensors");
        let mut tensors = models::read_tensors(&path).unwrap();
        let norm = tensors.get_mut("layernorm.bias").unwrap();
        let _ = norm.get(3).fill_(value);
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
        models::write_tensors(&path, &tensors).unwrap();
        let reason = refusal(&folder);
        let says = "numbers that are not finite (in Float) in: layernorm.bias";
        assert!(reason.contains(says), "{reason}");
    }
}

/// Sizes that pass for some network's take no memory where the tensors have others.
#[test]
fn tensors_of_another_size_are_listed_whatever_the_configuration_asks_for() {
    let folder = copy("dinov2", "encoder_wild_sizes");
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let wild = text.replace("\"hidden_size\": 24", "\"hidden_size\": 300000");
    assert_ne!(wild, text);
    std::fs::write(&path, wild).unwrap();
    let reason = refusal(&folder);
    let says = "layernorm.weight has shape [24], the configuration asks for [300000]";
    assert!(reason.contains(says), "{reason}");
}

#[test]
fn a_picture_left_at_less_than_a_patch_is_refused() {
    let folder = copy("dinov2", "encoder_small_picture");
    let path = folder.join("preprocessor_config.json");
    let kept = json!({"do_resize": false, "do_center_crop": false});
    std::fs::write(&path, kept.to_string()).unwrap();
    let encoder = Encoder::load(&folder, (Kind::Float, Device::Cpu)).unwrap();
    let small = Rgb8 {
        width: 30,
        height: 13,
        data: vec![7; 30 * 13 * 3],
    };
    let told = encoder.fit(&small).unwrap_err().to_string();
    assert!(
        told.contains("30x13 pixels are less than one patch of 14"),
        "{told}"
    );
}

/// Its tensors bear OpenAI's names, and most of its networks have another activation.
#[test]
fn a_checkpoint_of_open_clip_is_read_when_its_activation_is_openais() {
    let folder = copy("longclip", "encoder_open_clip");
    let config = folder.join("open_clip_config.json");
    std::fs::write(&config, json!({"model_cfg": {"embed_dim": 24}}).to_string()).unwrap();
    let path = folder.join("longclip.pt");
    let reason = refusal(&path);
    assert!(reason.contains("model_cfg.quick_gelu"), "{reason}");
    std::fs::write(
        &config,
        json!({"model_cfg": {"quick_gelu": true}}).to_string(),
    )
    .unwrap();
    assert!(Encoder::load(&path, (Kind::Float, Device::Cpu)).is_ok());
}

#[test]
fn what_is_not_built_is_refused_by_key() {
    for (index, (name, file, old, new, key)) in [
        (
            "dinov2",
            "config.json",
            "\"dinov2\"",
            "\"dinov2_with_registers\"",
            "model_type",
        ),
        (
            "siglip",
            "config.json",
            "\"model_type\": \"siglip\"",
            "\"model_type\": \"siglip2\"",
            "NaFlex",
        ),
        (
            "clip",
            "config.json",
            "\"quick_gelu\"",
            "\"relu\"",
            "hidden_act",
        ),
        (
            "clip",
            "config.json",
            "\"image_size\": 32",
            "\"image_size\": 48",
            "image_size",
        ),
        (
            "siglip",
            "config.json",
            "\"vision_use_head\": true",
            "\"vision_use_head\": false",
            "vision_config.vision_use_head",
        ),
        (
            "dinov2",
            "preprocessor_config.json",
            "\"resample\": 3",
            "\"resample\": 1",
            "resample",
        ),
        (
            "bge_m3",
            "config.json",
            "\"num_attention_heads\": 2",
            "\"num_attention_heads\": 3",
            "num_attention_heads",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = copy(name, &format!("encoder_key_{index}"));
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(old), "{file} of {name} has no {old}");
        std::fs::write(folder.join(file), text.replace(old, new)).unwrap();
        let reason = refusal(&folder);
        assert!(reason.contains(key), "{key} is not in: {reason}");
    }
}

#[test]
fn missing_and_unknown_tensors_are_listed_by_name() {
    let folder = copy("dinov2", "encoder_names");
    let path = folder.join("model.safetensors");
    let mut tensors = models::read_tensors(&path).unwrap();
    let norm = tensors.remove("layernorm.bias").unwrap();
    tensors.insert("layernorm.bais".into(), norm);
    let cls = tensors["embeddings.cls_token"].view([1, 24]);
    tensors.insert("embeddings.cls_token".into(), cls);
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
    models::write_tensors(&path, &tensors).unwrap();
    let reason = refusal(&folder);
    for part in [
        "missing tensors: layernorm.bias",
        "unknown tensors: layernorm.bais",
        "embeddings.cls_token has shape [1, 24]",
    ] {
        assert!(reason.contains(part), "{part} is not in: {reason}");
    }
}
