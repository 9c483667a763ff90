//! Encoders from the PNG or the text on, in float64 and float32, against transformers, open_clip and
//! torchvision in float64.

mod refused;

use std::collections::BTreeMap;
use std::path::PathBuf;

use models::ModelError;
use models::encoder::{Encoder, Pooling};
use models::image::Rgb8;
use tch::{Device, Kind, Tensor};

use crate::support::{expected_of, fixture, gap, ints, relative};
use refused::refusal;

type Expected = BTreeMap<String, Tensor>;

fn folder(name: &str) -> PathBuf {
    fixture("parity/encoders").join(name)
}

fn pictures() -> Vec<Rgb8> {
    ["wide.png", "tall.png"]
        .map(|name| Rgb8::decode(&std::fs::read(folder(name)).unwrap()).unwrap())
        .to_vec()
}

fn texts() -> Vec<String> {
    serde_json::from_str(&std::fs::read_to_string(folder("texts.json")).unwrap()).unwrap()
}

pub fn load(path: &str, kind: Kind) -> Encoder {
    tch::set_num_threads(1);
    Encoder::load(&folder(path), (kind, Device::Cpu)).unwrap()
}

/// Float64 within 1e-9 of the reference's largest number, float32 within 1e-4.
fn close(what: &str, kind: Kind, got: &Tensor, want: &Tensor) {
    let far = relative(got, want);
    println!("{what} {kind:?}: {far:e}");
    let bound = if kind == Kind::Double { 1e-9 } else { 1e-4 };
    assert!(far < bound, "{what} {kind:?}: {far:e}");
}

/// Both pictures in one batch, pixels checked on the way.
fn images(encoder: &Encoder, expected: &Expected, kind: Kind, pool: Pooling) -> Tensor {
    let fitted: Vec<Rgb8> = pictures()
        .iter()
        .map(|picture| encoder.fit(picture).unwrap())
        .collect();
    let fitted: Vec<&Rgb8> = fitted.iter().collect();
    let processor = encoder.processor().unwrap();
    let pixels = processor
        .tensor(&fitted, (Kind::Float, Device::Cpu))
        .unwrap();
    let far = gap(&pixels, &expected["pixels"]);
    assert!(far < 1e-6, "pixels: {far:e}");
    let rows = encoder.embed_images(&fitted, pool).unwrap();
    assert_eq!(rows.kind(), kind);
    rows
}

/// Each text by itself, and all as one padded batch where the network pads.
fn read(encoder: &Encoder, expected: &Expected, pool: Pooling) -> [Tensor; 2] {
    let ids: Vec<Vec<i64>> = texts()
        .iter()
        .map(|text| encoder.tokenize(text).unwrap())
        .collect();
    for (index, ids) in ids.iter().enumerate() {
        assert_eq!(
            *ids,
            ints(&expected[&format!("ids.{index}")]),
            "ids of text {index}"
        );
    }
    let alone: Vec<Tensor> = ids
        .iter()
        .map(|ids| encoder.embed_ids(&[ids], ids.len(), pool).unwrap())
        .collect();
    let width = ids.iter().map(Vec::len).max().unwrap();
    let all: Vec<&[i64]> = ids.iter().map(Vec::as_slice).collect();
    [
        Tensor::cat(&alone, 0),
        encoder.embed_ids(&all, width, pool).unwrap(),
    ]
}

#[test]
fn dinov2_equals_transformers() {
    for name in ["dinov2", "dinov2_giant"] {
        let expected = expected_of(&folder(name));
        for kind in [Kind::Double, Kind::Float] {
            let encoder = load(name, kind);
            for (pool, key) in [(Pooling::Cls, "cls"), (Pooling::Mean, "mean")] {
                let got = images(&encoder, &expected, kind, pool);
                close(&format!("{name} {key}"), kind, &got, &expected[key]);
            }
        }
    }
}

#[test]
fn clip_longclip_and_siglip_equal_their_references() {
    for name in [
        "clip",
        "longclip_hf",
        "longclip/longclip.pt",
        "siglip",
        "siglip2",
    ] {
        let home = folder(name);
        let home = if home.is_file() {
            home.parent().unwrap().to_owned()
        } else {
            home
        };
        let expected = expected_of(&home);
        for kind in [Kind::Double, Kind::Float] {
            let encoder = load(name, kind);
            let got = images(&encoder, &expected, kind, Pooling::Cls);
            close(&format!("{name} images"), kind, &got, &expected["images"]);
            for (how, got) in
                ["alone", "together"]
                    .into_iter()
                    .zip(read(&encoder, &expected, Pooling::Cls))
            {
                close(
                    &format!("{name} texts {how}"),
                    kind,
                    &got,
                    &expected["texts"],
                );
            }
        }
    }
}

#[test]
fn bge_m3_equals_transformers() {
    let expected = expected_of(&folder("bge_m3"));
    for kind in [Kind::Double, Kind::Float] {
        let encoder = load("bge_m3", kind);
        for (pool, key) in [(Pooling::Cls, "texts"), (Pooling::Mean, "mean")] {
            for (how, got) in ["alone", "together"]
                .into_iter()
                .zip(read(&encoder, &expected, pool))
            {
                close(&format!("bge_m3 {key} {how}"), kind, &got, &expected[key]);
            }
        }
        let marked = ints(&expected["marked_ids"]);
        let (alone, longer) = (
            encoder.embed_ids(&[&marked], marked.len(), Pooling::Cls),
            [3; 14],
        );
        let together = encoder.embed_ids(&[&longer, &marked], longer.len(), Pooling::Cls);
        for (how, got) in [
            ("alone", alone.unwrap()),
            ("together", together.unwrap().narrow(0, 1, 1)),
        ] {
            close(
                &format!("bge_m3 marked {how}"),
                kind,
                &got,
                &expected["marked"],
            );
        }
    }
}

/// What an encoder makes of the pictures and the texts, where it takes them.
pub fn everything(encoder: &Encoder) -> Vec<(&'static str, Tensor)> {
    let mut out = Vec::new();
    if encoder.sees() {
        let fitted: Vec<Rgb8> = pictures()
            .iter()
            .map(|picture| encoder.fit(picture).unwrap())
            .collect();
        let fitted: Vec<&Rgb8> = fitted.iter().collect();
        for (name, pool) in [("cls", Pooling::Cls), ("mean", Pooling::Mean)] {
            out.push((name, encoder.embed_images(&fitted, pool).unwrap()));
        }
    }
    if encoder.reads() {
        let ids: Vec<Vec<i64>> = texts()
            .iter()
            .map(|text| encoder.tokenize(text).unwrap())
            .collect();
        let ids: Vec<&[i64]> = ids.iter().map(Vec::as_slice).collect();
        let width = ids.iter().map(|ids| ids.len()).max().unwrap();
        for (name, pool) in [("text cls", Pooling::Cls), ("text mean", Pooling::Mean)] {
            out.push((name, encoder.embed_ids(&ids, width, pool).unwrap()));
        }
    }
    out
}

pub const FAMILIES: [&str; 8] = [
    "dinov2",
    "dinov2_giant",
    "clip",
    "longclip_hf",
    "longclip/longclip.pt",
    "siglip",
    "siglip2",
    "bge_m3",
];

#[test]
fn every_weight_moves_with_its_network() {
    for name in FAMILIES {
        let mut encoder = load(name, Kind::Float);
        let before = everything(&encoder);
        encoder.move_to((Kind::Double, Device::Cpu)).unwrap();
        let told = format!("{encoder:?}");
        assert!(told.contains("Double") && !told.contains("Float"), "{name}");
        for ((what, before), (_, after)) in before.iter().zip(everything(&encoder)) {
            assert_eq!(after.kind(), Kind::Double);
            let far = relative(&after, before);
            assert!(far < 1e-4, "{name} {what}: {far:e}");
        }
    }
}

/// A copy of a fixture's folder, to be damaged.
fn copy(name: &str, to: &str) -> PathBuf {
    let target = crate::cli::program::scratch(to);
    crate::cli::program::copy(&folder(name), &target);
    target
}

/// As transformers' class of that name: padded in front unless the file says else, in lower case.
#[test]
fn the_tokenizer_of_siglip_2_has_its_own_defaults() {
    let plain = load("siglip2", Kind::Float);
    let folder = copy("siglip2", "encoder_siglip2_class");
    let config = folder.join("tokenizer_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("TokenizersBackend", "Siglip2Tokenizer");
    assert!(text.contains("Siglip2Tokenizer") && !text.contains("padding_side"));
    let ids = |config_text: &str, said: &str| {
        std::fs::write(&config, config_text).unwrap();
        let encoder = Encoder::load(&folder, (Kind::Float, Device::Cpu)).unwrap();
        encoder.tokenize(said).unwrap()
    };
    let right = plain.tokenize("a red circle").unwrap();
    let written = right.iter().position(|&id| id == 1).unwrap() + 1;
    let left = [vec![0; 64 - written], right[..written].to_vec()].concat();
    assert_eq!(ids(&text, "A RED circle"), left);
    let side = text.replacen('{', "{\"padding_side\": \"right\",", 1);
    assert_eq!(ids(&side, "A RED circle"), right);
}

/// A folder with one tower of the fixture `name` alone, as transformers saves it with its projection: what
/// configured the tower is the whole file, the tensors bear its name or not.
fn tower(name: &str, tower: &str, prefixed: bool) -> PathBuf {
    let folder = copy(name, &format!("encoder_{name}_{tower}_{prefixed}"));
    let path = folder.join("config.json");
    let config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let mut own = config[format!("{tower}_config")].clone();
    own["model_type"] = format!("{name}_{tower}_model").into();
    own["projection_dim"] = config["projection_dim"].clone();
    std::fs::write(&path, own.to_string()).unwrap();
    let prefix = format!("{tower}_model.");
    let path = folder.join("model.safetensors");
    let tensors: Vec<(String, Tensor)> = models::read_tensors(&path)
        .unwrap()
        .into_iter()
        .filter_map(|(full, tensor)| match full.strip_prefix(&prefix) {
            Some(short) if !prefixed => Some((short.to_owned(), tensor)),
            None if !full.ends_with("projection.weight") || !full.starts_with(&tower[..3]) => None,
            _ => Some((full, tensor)),
        })
        .collect();
    models::write_tensors(&path, &tensors).unwrap();
    folder
}

#[test]
fn one_tower_alone_gives_what_it_gives_beside_the_other() {
    for name in ["clip", "siglip"] {
        for prefixed in [true, false] {
            let place = (Kind::Double, Device::Cpu);
            let expected = expected_of(&folder(name));
            let vision = Encoder::load(&tower(name, "vision", prefixed), place).unwrap();
            assert!(vision.sees() && !vision.reads());
            let got = images(&vision, &expected, Kind::Double, Pooling::Cls);
            close(
                &format!("{name} vision"),
                Kind::Double,
                &got,
                &expected["images"],
            );
            let told = vision.tokenize("a").unwrap_err().to_string();
            assert!(told.contains("encodes pictures alone"), "{told}");
            let text = Encoder::load(&tower(name, "text", prefixed), place).unwrap();
            assert!(text.reads() && !text.sees());
            for got in read(&text, &expected, Pooling::Cls) {
                close(
                    &format!("{name} text"),
                    Kind::Double,
                    &got,
                    &expected["texts"],
                );
            }
            let told = text.fit(&pictures()[0]).unwrap_err().to_string();
            assert!(told.contains("encodes texts alone"), "{told}");
        }
    }
}

#[test]
fn shards_of_torchs_form_are_read_by_their_index() {
    let folder = copy("bge_m3", "encoder_shards");
    let shard = "pytorch_model-00001-of-00001.bin";
    std::fs::rename(folder.join("pytorch_model.bin"), folder.join(shard)).unwrap();
    assert!(refusal(&folder).contains("pytorch_model.bin"));
    let index = |names: &[&str]| {
        let map: BTreeMap<&str, &str> = names.iter().map(|name| (*name, shard)).collect();
        let text = serde_json::json!({"weight_map": map}).to_string();
        std::fs::write(folder.join("pytorch_model.bin.index.json"), text).unwrap();
    };
    // What an index leaves out is not read, and is listed by name.
    index(&[]);
    let reason = refusal(&folder);
    let (_, names) = reason.split_once("missing tensors: ").unwrap();
    index(&names.split(", ").collect::<Vec<_>>());
    let expected = expected_of(&folder);
    let sharded = Encoder::load(&folder, (Kind::Double, Device::Cpu)).unwrap();
    let [alone, _] = read(&sharded, &expected, Pooling::Cls);
    close("bge_m3 in shards", Kind::Double, &alone, &expected["texts"]);
}

#[test]
fn texts_and_pictures_go_to_networks_that_take_them() {
    let dino = load("dinov2", Kind::Float);
    assert!(matches!(dino.tokenize("a"), Err(ModelError::Text(_))));
    let bge = load("bge_m3", Kind::Float);
    assert!(matches!(bge.fit(&pictures()[0]), Err(ModelError::Image(_))));
    for ids in [&[][..], &[100_000], &[0; 49]] {
        assert!(
            matches!(bge.check_ids(ids), Err(ModelError::Text(_))),
            "{} ids",
            ids.len()
        );
    }
}
