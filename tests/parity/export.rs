//! Folders written by `models::save_folder`: the same tensors, bytes and config.

use std::collections::BTreeMap;
use std::path::Path;

use models::{DecoderConfig, load_folder, read_tensors, save_folder, write_tensors};
use tch::{Device, Kind, Tensor};

use crate::support::python::{NO_PYTHON, difference, python};
use crate::support::skip::skip;
use crate::support::{NETWORKS, network, network_folder};

/// The tensors of all of a folder's weight files.
fn tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let weights = files.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("model") && name.ends_with(".safetensors")
    });
    weights
        .flat_map(|path| read_tensors(&path).unwrap())
        .collect()
}

#[test]
fn an_export_holds_the_tensors_and_the_shape_that_were_read() {
    for name in NETWORKS {
        let model = network(name, Kind::Double);
        let folder = tempfile::tempdir().unwrap();
        save_folder(&model, Kind::Double, folder.path()).unwrap();
        let (before, after) = (tensors(&network_folder(name)), tensors(folder.path()));
        assert_eq!(
            before.keys().collect::<Vec<_>>(),
            after.keys().collect::<Vec<_>>()
        );
        for (tensor, value) in &before {
            assert!(
                *value == after[tensor] && value.kind() == after[tensor].kind(),
                "{name}: {tensor}"
            );
        }
        let again = DecoderConfig::read(folder.path()).unwrap();
        assert_eq!(
            DecoderConfig {
                source: model.config.source.clone(),
                ..again.clone()
            },
            model.config
        );
        for (key, value) in &model.config.source {
            assert_eq!(&again.source[key], value, "{name}: {key}");
        }
    }
}

#[test]
fn equal_weights_are_equal_bytes() {
    let model = network("qwen2_untied", Kind::Float);
    let [a, b] = [(); 2].map(|()| {
        let folder = tempfile::tempdir().unwrap();
        save_folder(&model, Kind::Float, folder.path()).unwrap();
        std::fs::read(folder.path().join("model.safetensors")).unwrap()
    });
    assert_eq!(a, b);
}

#[test]
fn weights_stored_in_half_widths_are_read_exactly() {
    let source = network("qwen3_tied", Kind::Double);
    for kind in [Kind::BFloat16, Kind::Half, Kind::Float] {
        let folder = tempfile::tempdir().unwrap();
        let narrow = source.params.trainable().to_kind(kind);
        save_folder(&source, kind, folder.path()).unwrap();
        let read = load_folder(folder.path(), Kind::Double, Device::Cpu).unwrap();
        assert_eq!(read.config.kind, kind);
        assert!(
            *read.params.trainable() == narrow.to_kind(Kind::Double),
            "{kind:?}"
        );
    }
}

#[test]
fn a_tied_head_that_is_stored_all_the_same_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        network_folder("qwen3_tied").join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let mut stored: Vec<(String, Tensor)> =
        tensors(&network_folder("qwen3_tied")).into_iter().collect();
    let embedding = stored
        .iter()
        .find(|(name, _)| name == "model.embed_tokens.weight")
        .unwrap()
        .1
        .copy();
    stored.push(("lm_head.weight".into(), embedding));
    write_tensors(&folder.path().join("model.safetensors"), &stored).unwrap();
    let read = load_folder(folder.path(), Kind::Double, Device::Cpu).unwrap();
    assert!(*read.params.trainable() == *network("qwen3_tied", Kind::Double).params.trainable());
}

#[test]
fn transformers_loads_an_export_with_the_same_logits() {
    let Some(python) = python() else {
        skip!("{NO_PYTHON}");
    };
    for name in NETWORKS {
        let model = network(name, Kind::Double);
        let folder = tempfile::tempdir().unwrap();
        save_folder(&model, Kind::Double, folder.path()).unwrap();
        let expected = network_folder(name).join("expected.safetensors");
        let worst = difference(
            &python,
            "parity/networks/make.py",
            &[Path::new("--check"), folder.path(), &expected],
        );
        println!("{name}: transformers on the export {worst:e}");
        // Equal weights; where they lie in memory moves the last bit of a product: 9e-16 measured.
        assert!(worst < 1e-13, "{name}: {worst:e}");
    }
}
