//! Networks of fixed width against lpips, pytorch-fid and dreamsim in float64; weights by formula (see
//! make.py), pictures from ../encoders.

mod dists;

pub use dists::{dists_distances, dists_folder};

use std::path::{Path, PathBuf};

use models::encoder::{DistanceInput, DistanceNetwork, Dists, Encoder, Lpips, Pooling};
use models::image::Rgb8;
use models::write_tensors;
use serde_json::Value;
use svg::Filter;
use tch::{Device, Kind, Tensor};

use crate::cli::program::scratch;
use crate::support::{fixture, larger};

/// Numbers of a tensor by its name, as make.py makes them.
fn formula(name: &str, shape: &[i64]) -> Tensor {
    let seed = name.bytes().fold(0x811C_9DC5u32, |seed, byte| {
        (seed ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let inputs: i64 = shape.iter().skip(1).product();
    let scale = (6.0 / inputs as f64).sqrt();
    let number = |index: i64| {
        let mut x = (index as u64)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(u64::from(seed))
            & 0xFFFF_FFFF;
        for _ in 0..2 {
            x = ((x ^ (x >> 16)) * 73_244_475) & 0xFFFF_FFFF;
        }
        let unit = (x ^ (x >> 16)) as f64 / 2f64.powi(32);
        let value = match (name, shape.len()) {
            ("alpha" | "beta", _) => 0.2 * unit,
            _ if name.starts_with("lin") => 0.2 * unit,
            (_, 2..) => (2.0 * unit - 1.0) * scale,
            _ if name.ends_with("weight") || name.ends_with("running_var") => 0.75 + 0.5 * unit,
            _ => (2.0 * unit - 1.0) * 0.1,
        };
        value as f32
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Writes a checkpoint of `names`; `prefix` goes before a name in the formula alone.
fn write(path: &Path, prefix: &str, names: &[(String, Vec<i64>)]) {
    let tensors: Vec<(String, Tensor)> = names
        .iter()
        .map(|(name, shape)| (name.clone(), formula(&format!("{prefix}{name}"), shape)))
        .collect();
    write_tensors(path, &tensors).unwrap();
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixture("parity/perceptual/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn pictures() -> [Rgb8; 2] {
    ["wide.png", "tall.png"].map(|name| {
        Rgb8::decode(&std::fs::read(fixture("parity/encoders").join(name)).unwrap()).unwrap()
    })
}

fn close(what: &str, kind: Kind, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().map(|value| value.abs()).fold(0.0, larger);
    let far = got
        .iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs() / scale)
        .fold(0.0, larger);
    println!("{what} {kind:?}: {far:e}");
    assert!(
        far < if kind == Kind::Double { 1e-9 } else { 1e-4 },
        "{what} {kind:?}: {far:e}"
    );
}

/// Index, width and kernel of AlexNet's convolutions.
pub const ALEX: [(usize, i64, i64); 5] = [
    (0, 64, 11),
    (3, 192, 5),
    (6, 384, 3),
    (8, 256, 3),
    (10, 256, 3),
];

/// Those of VGG16's.
pub const VGG: [(usize, i64, i64); 13] = [
    (0, 64, 3),
    (2, 64, 3),
    (5, 128, 3),
    (7, 128, 3),
    (10, 256, 3),
    (12, 256, 3),
    (14, 256, 3),
    (17, 512, 3),
    (19, 512, 3),
    (21, 512, 3),
    (24, 512, 3),
    (26, 512, 3),
    (28, 512, 3),
];

/// Channels of AlexNet's five layers.
pub const ALEX_WIDTHS: [i64; 5] = [64, 192, 384, 256, 256];

/// Channels of VGG16's.
pub const VGG_WIDTHS: [i64; 5] = [64, 128, 256, 512, 512];

/// A folder with torchvision's trunk and the package's channel weights, as users would put it together.
pub fn lpips_folder(name: &str, kernels: &[(usize, i64, i64)], widths: [i64; 5]) -> PathBuf {
    let folder = scratch(&format!("lpips_{name}"));
    let mut trunk = Vec::new();
    let mut input = 3;
    for &(index, out, kernel) in kernels {
        trunk.push((
            format!("features.{index}.weight"),
            vec![out, input, kernel, kernel],
        ));
        trunk.push((format!("features.{index}.bias"), vec![out]));
        input = out;
    }
    // Unread: the classifier that torchvision's files carry.
    trunk.push(("classifier.6.bias".into(), vec![10]));
    write(&folder.join("trunk.safetensors"), "", &trunk);
    let heads = widths.iter().enumerate();
    let heads: Vec<_> = heads
        .map(|(i, &width)| (format!("lin{i}.model.1.weight"), vec![1, width, 1, 1]))
        .collect();
    write(&folder.join("heads.safetensors"), "", &heads);
    folder
}

pub fn lpips_distances(folder: &Path, kind: Kind) -> Vec<f64> {
    let network = Lpips::load(folder, (kind, Device::Cpu)).unwrap();
    let [a, b] = pictures().map(|picture| picture.resized(48, 48, Filter::Bicubic).into_owned());
    let inputs = [
        DistanceInput::Unit,
        DistanceInput::Signed,
        DistanceInput::Imagenet,
    ];
    inputs
        .map(|input| {
            let [a, b] = [&a, &b].map(|picture| network.features(&[picture], input).unwrap());
            network.distances(&a, &b).unwrap().double_value(&[0])
        })
        .to_vec()
}

#[test]
fn lpips_equals_its_package() {
    tch::set_num_threads(1);
    let want = expected();
    for (name, kernels, widths) in [
        ("alex", &ALEX[..], ALEX_WIDTHS),
        ("vgg", &VGG[..], VGG_WIDTHS),
    ] {
        let folder = lpips_folder(name, kernels, widths);
        let want: Vec<f64> = ["unit", "signed", "imagenet"]
            .map(|key| want[name][key].as_f64().unwrap())
            .to_vec();
        for kind in [Kind::Double, Kind::Float] {
            close(name, kind, &lpips_distances(&folder, kind), &want);
        }
    }
}

#[test]
fn lpips_of_several_pictures_is_that_of_each() {
    tch::set_num_threads(1);
    let folder = lpips_folder("batch", &ALEX, ALEX_WIDTHS);
    let network = Lpips::load(&folder, (Kind::Double, Device::Cpu)).unwrap();
    let [a, b] = pictures().map(|picture| picture.resized(40, 36, Filter::Bicubic).into_owned());
    let both = network.features(&[&a, &b], DistanceInput::Unit).unwrap();
    let own = network.distances(&both, &both.one(0)).unwrap();
    assert_eq!(own.double_value(&[0]), 0.0);
    let alone = [&a, &b].map(|picture| network.features(&[picture], DistanceInput::Unit).unwrap());
    let far = network
        .distances(&alone[1], &alone[0])
        .unwrap()
        .double_value(&[0]);
    assert!((own.double_value(&[1]) - far).abs() < 1e-12 && far > 0.0);
    let small = a.resized(40, 20, Filter::Bicubic);
    assert!(network.features(&[&small], DistanceInput::Unit).is_err());
}

/// The tensors of pytorch-fid's checkpoint: name, output and input channels, kernel.
fn inception_names() -> Vec<(String, Vec<i64>)> {
    let mut names = Vec::new();
    let mut conv = |name: String, out: i64, input: i64, kernel: (i64, i64)| {
        names.push((
            format!("{name}.conv.weight"),
            vec![out, input, kernel.0, kernel.1],
        ));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            names.push((format!("{name}.bn.{part}"), vec![out]));
        }
    };
    for (name, out, input, side) in [
        ("Conv2d_1a_3x3", 32, 3, 3),
        ("Conv2d_2a_3x3", 32, 32, 3),
        ("Conv2d_2b_3x3", 64, 32, 3),
        ("Conv2d_3b_1x1", 80, 64, 1),
        ("Conv2d_4a_3x3", 192, 80, 3),
    ] {
        conv(name.into(), out, input, (side, side));
    }
    for (block, input, pool) in [("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)] {
        for (part, out, input, side) in [
            ("branch1x1", 64, input, 1),
            ("branch5x5_1", 48, input, 1),
            ("branch5x5_2", 64, 48, 5),
            ("branch3x3dbl_1", 64, input, 1),
            ("branch3x3dbl_2", 96, 64, 3),
            ("branch3x3dbl_3", 96, 96, 3),
            ("branch_pool", pool, input, 1),
        ] {
            conv(format!("Mixed_{block}.{part}"), out, input, (side, side));
        }
    }
    for (part, out, input, side) in [
        ("6a.branch3x3", 384, 288, 3),
        ("6a.branch3x3dbl_1", 64, 288, 1),
        ("6a.branch3x3dbl_2", 96, 64, 3),
        ("6a.branch3x3dbl_3", 96, 96, 3),
    ] {
        conv(format!("Mixed_{part}"), out, input, (side, side));
    }
    for (block, w) in [("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)] {
        for (part, out, input, kernel) in [
            ("branch1x1", 192, 768, (1, 1)),
            ("branch7x7_1", w, 768, (1, 1)),
            ("branch7x7_2", w, w, (1, 7)),
            ("branch7x7_3", 192, w, (7, 1)),
            ("branch7x7dbl_1", w, 768, (1, 1)),
            ("branch7x7dbl_2", w, w, (7, 1)),
            ("branch7x7dbl_3", w, w, (1, 7)),
            ("branch7x7dbl_4", w, w, (7, 1)),
            ("branch7x7dbl_5", 192, w, (1, 7)),
            ("branch_pool", 192, 768, (1, 1)),
        ] {
            conv(format!("Mixed_{block}.{part}"), out, input, kernel);
        }
    }
    for (part, out, input, kernel) in [
        ("branch3x3_1", 192, 768, (1, 1)),
        ("branch3x3_2", 320, 192, (3, 3)),
        ("branch7x7x3_1", 192, 768, (1, 1)),
        ("branch7x7x3_2", 192, 192, (1, 7)),
        ("branch7x7x3_3", 192, 192, (7, 1)),
        ("branch7x7x3_4", 192, 192, (3, 3)),
    ] {
        conv(format!("Mixed_7a.{part}"), out, input, kernel);
    }
    for (block, input) in [("7b", 1280), ("7c", 2048)] {
        for (part, out, input, kernel) in [
            ("branch1x1", 320, input, (1, 1)),
            ("branch3x3_1", 384, input, (1, 1)),
            ("branch3x3_2a", 384, 384, (1, 3)),
            ("branch3x3_2b", 384, 384, (3, 1)),
            ("branch3x3dbl_1", 448, input, (1, 1)),
            ("branch3x3dbl_2", 384, 448, (3, 3)),
            ("branch3x3dbl_3a", 384, 384, (1, 3)),
            ("branch3x3dbl_3b", 384, 384, (3, 1)),
            ("branch_pool", 192, input, (1, 1)),
        ] {
            conv(format!("Mixed_{block}.{part}"), out, input, kernel);
        }
    }
    names
}

/// A checkpoint of pytorch-fid's.
pub fn inception_file(name: &str) -> PathBuf {
    let path = scratch(name).join("fid.safetensors");
    write(&path, "", &inception_names());
    path
}

#[test]
fn inception_equals_pytorch_fid() {
    tch::set_num_threads(1);
    let path = inception_file("inception");
    let want: Vec<f64> = serde_json::from_value(expected()["inception"].clone()).unwrap();
    for kind in [Kind::Double, Kind::Float] {
        let network = Encoder::load(&path, (kind, Device::Cpu)).unwrap();
        let picture = network.fit(&pictures()[0]).unwrap();
        let row = network
            .embed_images(&[&picture], Pooling::Cls)
            .unwrap()
            .view([-1])
            .to_kind(Kind::Double);
        let row = Vec::<f64>::try_from(row).unwrap();
        assert_eq!(row.len(), 2048);
        let every: Vec<f64> = row.into_iter().step_by(16).collect();
        close("inception", kind, &every, &want);
    }
}

/// The cache folder of the dreamsim package with members 64 wide.
pub fn dreamsim_folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    let lora = folder.join("ensemble_lora");
    std::fs::create_dir(&lora).unwrap();
    let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 6.0, "lora_dropout": 0.1, "bias": "none", "target_modules": ["qkv"]}"#;
    std::fs::write(lora.join("adapter_config.json"), config).unwrap();
    let mut updates = Vec::new();
    for (member, file) in [
        "dino_vitbase16_pretrain",
        "clip_vitb16_pretrain",
        "open_clip_vitb16_pretrain",
    ]
    .iter()
    .enumerate()
    {
        let mut names: Vec<(String, Vec<i64>)> = [
            ("cls_token", vec![1, 1, 64]),
            ("pos_embed", vec![1, 197, 64]),
            ("patch_embed.proj.weight", vec![64, 3, 16, 16]),
            ("patch_embed.proj.bias", vec![64]),
            ("norm.weight", vec![64]),
            ("norm.bias", vec![64]),
        ]
        .map(|(name, shape)| (name.to_owned(), shape))
        .to_vec();
        for block in 0..12 {
            for (part, shape) in [
                ("norm1.weight", vec![64]),
                ("norm1.bias", vec![64]),
                ("attn.qkv.weight", vec![192, 64]),
                ("attn.qkv.bias", vec![192]),
                ("attn.proj.weight", vec![64, 64]),
                ("attn.proj.bias", vec![64]),
                ("norm2.weight", vec![64]),
                ("norm2.bias", vec![64]),
                ("mlp.fc1.weight", vec![128, 64]),
                ("mlp.fc1.bias", vec![128]),
                ("mlp.fc2.weight", vec![64, 128]),
                ("mlp.fc2.bias", vec![64]),
            ] {
                names.push((format!("blocks.{block}.{part}"), shape));
            }
            let update =
                format!("base_model.model.extractor_list.{member}.model.blocks.{block}.attn.qkv");
            updates.push((format!("{update}.lora_A.weight"), vec![4, 64]));
            updates.push((format!("{update}.lora_B.weight"), vec![192, 4]));
        }
        if member > 0 {
            names.extend(
                [("pos_drop.weight", 64), ("pos_drop.bias", 64)]
                    .map(|(name, size)| (name.to_owned(), vec![size])),
            );
            names.push(("proj".into(), vec![64, 24]));
        }
        write(
            &folder.join(format!("{file}.safetensors")),
            &format!("{member}."),
            &names,
        );
    }
    write(&lora.join("adapter_model.safetensors"), "", &updates);
    folder
}

#[test]
fn dreamsim_equals_its_package() {
    tch::set_num_threads(1);
    let folder = dreamsim_folder("dreamsim");
    let want = expected()["dreamsim"].clone();
    let embed: Vec<f64> = serde_json::from_value(want["embed"].clone()).unwrap();
    for kind in [Kind::Double, Kind::Float] {
        let network = Encoder::load(&folder, (kind, Device::Cpu)).unwrap();
        let fitted = pictures().map(|picture| network.fit(&picture).unwrap());
        let rows = network
            .embed_images(&[&fitted[0], &fitted[1]], Pooling::Cls)
            .unwrap();
        let first = Vec::<f64>::try_from(rows.get(0).to_kind(Kind::Double)).unwrap();
        close("dreamsim embedding", kind, &first, &embed);
        let distance = 1.0 - (rows.get(0) * rows.get(1)).sum(None).double_value(&[]);
        close(
            "dreamsim distance",
            kind,
            &[distance],
            &[want["distance"].as_f64().unwrap()],
        );
    }
}

#[test]
fn every_weight_moves_with_its_network() {
    for path in [
        inception_file("inception_moves"),
        dreamsim_folder("dreamsim_moves"),
    ] {
        let mut network = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
        network.move_to((Kind::Double, Device::Cpu)).unwrap();
        let told = format!("{network:?}");
        assert!(told.contains("Double") && !told.contains("Float"));
    }
    let folder = lpips_folder("lpips_moves", &ALEX, ALEX_WIDTHS);
    let lpips = Lpips::load(&folder, (Kind::Float, Device::Cpu)).unwrap();
    let folder = dists_folder("moves");
    let dists = Dists::load(&folder, (Kind::Float, Device::Cpu)).unwrap();
    let networks: [Box<dyn DistanceNetwork>; 2] = [Box::new(lpips), Box::new(dists)];
    for mut network in networks {
        network.move_to((Kind::Double, Device::Cpu)).unwrap();
        let told = format!("{network:?}");
        assert!(told.contains("Double") && !told.contains("Float"));
    }
}

#[test]
fn an_update_of_nothing_is_refused_by_name() {
    let folder = dreamsim_folder("dreamsim_unknown");
    let path = folder.join("ensemble_lora/adapter_model.safetensors");
    let mut tensors: Vec<(String, Tensor)> =
        models::read_tensors(&path).unwrap().into_iter().collect();
    tensors.push((
        "base_model.model.mlp.lora_A.weight".into(),
        Tensor::zeros([4, 64], (Kind::Float, Device::Cpu)),
    ));
    write_tensors(&path, &tensors).unwrap();
    let reason = Encoder::load(&folder, (Kind::Float, Device::Cpu))
        .unwrap_err()
        .to_string();
    assert!(
        reason.contains("base_model.model.mlp.lora_A.weight"),
        "{reason}"
    );
}
