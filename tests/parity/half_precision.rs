//! Encoders in float16 beside themselves in float32: cosines and distances stay within a thousandth, with
//! weights of odd scales too.

use std::path::{Path, PathBuf};

use models::encoder::{Encoder, Pooling, RandomShape, unit_rows};
use models::image::Rgb8;
use models::{read_tensors, write_tensors};
use tch::{Device, Kind, Tensor};

use super::encoders::{FAMILIES, everything, load};
use super::perceptual::{
    ALEX, ALEX_WIDTHS, VGG, VGG_WIDTHS, dists_distances, dists_folder, dreamsim_folder,
    inception_file, lpips_distances, lpips_folder, pictures,
};
use crate::cli::program::{copy, scratch};
use crate::support::{fixture, gap};

/// The largest of `1 - cosine` of each row of `a` with that of `b`.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let [a, b] = [a, b].map(|rows| unit_rows(rows).to_kind(Kind::Double));
    let cosines = (a * b).sum_dim_intlist([1i64].as_slice(), false, None);
    (1.0f64 - cosines).abs().max().double_value(&[])
}

/// The largest difference of the cosines of all pairs of rows.
fn cosines_apart(a: &Tensor, b: &Tensor) -> f64 {
    let [a, b] = [a, b].map(|rows| unit_rows(rows).to_kind(Kind::Double));
    gap(&a.matmul(&a.tr()), &b.matmul(&b.tr()))
}

/// Multiplies the tensors of a file whose names `gain` gives one for; how many those are.
fn scale(path: &Path, gain: impl Fn(&str) -> Option<f64>) -> usize {
    let mut scaled = 0;
    let tensors: Vec<(String, Tensor)> = read_tensors(path)
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| match gain(&name) {
            Some(gain) => {
                scaled += 1;
                (name, tensor * gain)
            }
            None => (name, tensor),
        })
        .collect();
    write_tensors(path, &tensors).unwrap();
    scaled
}

/// Networks 12 to 24 numbers wide, where nothing averages rounding out: 1.3e-6 and 9.99e-4 are the most that
/// was measured, under four instruction sets; a processor may round otherwise.
#[test]
fn cosines_of_tiny_networks_stay_within_thousandths() {
    for name in FAMILIES {
        let full = everything(&load(name, Kind::Float));
        let half = everything(&load(name, Kind::Half));
        for ((what, full), (_, half)) in full.iter().zip(&half) {
            let (own, pairs) = (apart(full, half), cosines_apart(full, half));
            println!("{name} {what}: {own:e} from float32, cosines {pairs:e}");
            // The mean of a text's tokens is nobody's feature.
            let pairs_hold = *what == "text mean" || pairs < 3e-3;
            assert!(own < 3e-6 && pairs_hold, "{name} {what}: {own:e} {pairs:e}");
        }
    }
}

/// What is multiplied here comes out far beyond float16's 65504, or below its 6e-8.
#[test]
fn pixels_maps_and_pooled_vectors_of_any_scale_are_the_same() {
    let parts: [&[&str]; 3] = [
        &["patch_embed"],
        &["text_projection", "visual_projection", "text_model.head"],
        &["layer_scale"],
    ];
    let mut ran = [0; 3];
    for name in FAMILIES.iter().filter(|name| !name.ends_with(".pt")) {
        for (part, names) in parts.iter().enumerate() {
            for gain in [1e-6, 1e6] {
                let folder = scratch("half_gain");
                copy(&fixture("parity/encoders").join(name), &folder);
                let of = |name: &str| names.iter().any(|part| name.contains(part)).then_some(gain);
                let weights = folder.join("model.safetensors");
                if !weights.exists() || scale(&weights, of) == 0 {
                    continue;
                }
                ran[part] += 1;
                let read = |kind| everything(&Encoder::load(&folder, (kind, Device::Cpu)).unwrap());
                for ((what, full), (_, half)) in read(Kind::Float).iter().zip(&read(Kind::Half)) {
                    let own = apart(full, half);
                    println!("{name} {} {gain}, {what}: {own:e}", parts[part][0]);
                    // 1.4e-6 is the most that was measured.
                    assert!(
                        own < 3e-6,
                        "{name} {} {gain}, {what}: {own:e}",
                        parts[part][0]
                    );
                }
            }
        }
    }
    assert_eq!(ran, [12, 8, 4]);
}

/// Pictures of several colours and frequencies, of the network's own size.
fn waves(encoder: &Encoder) -> Vec<Rgb8> {
    let wave = |number: usize| {
        let byte = |at: usize| {
            let (x, y, c) = (at / 3 % 224, at / 672, at % 3);
            let phase = (x * (number + 1) + y * (7 - number)) as f64 / 40.0;
            (127.5 + 127.5 * (phase + (c * number) as f64).sin()) as u8
        };
        let data = (0..224 * 224 * 3).map(byte).collect();
        let (width, height) = (224, 224);
        encoder
            .fit(&Rgb8 {
                width,
                height,
                data,
            })
            .unwrap()
    };
    (0..6).map(wave).collect()
}

/// The distance of cosines of a published shape in `kind` from float32's.
fn half_of(shape: RandomShape, kind: Kind) -> f64 {
    let embed = |kind| {
        // The same weights each time.
        let turn = torch_ext::seeded(5);
        let encoder = Encoder::random(shape, (kind, Device::Cpu)).unwrap();
        drop(turn);
        let pictures = waves(&encoder);
        let pictures: Vec<&Rgb8> = pictures.iter().collect();
        encoder.embed_images(&pictures, Pooling::Cls).unwrap()
    };
    let (full, half) = (embed(Kind::Float), embed(kind));
    let pairs = cosines_apart(&full, &half);
    println!(
        "{shape:?} {kind:?}: {:e} from float32, cosines {pairs:e}",
        apart(&full, &half)
    );
    pairs
}

#[test]
fn cosines_of_a_published_shape_stay_within_a_thousandth() {
    // 1.4e-4 was measured.
    assert!(half_of(RandomShape::Dinov2Base, Kind::Half) < 3e-4);
}

/// A gigabyte and a half of weights; bfloat16 is shown beside it.
#[test]
#[ignore = "takes minutes and much memory"]
fn cosines_of_clip_l_stay_within_a_thousandth() {
    for shape in [RandomShape::Dinov2Base, RandomShape::LongClipLarge] {
        half_of(shape, Kind::BFloat16);
        assert!(half_of(shape, Kind::Half) < 1e-3);
    }
}

/// Fails where the pictures' features in float16 are further than `most` from those in float32: by themselves,
/// and in their cosines.
fn close(what: &str, path: &Path, most: (f64, f64)) {
    let [full, half] = [Kind::Float, Kind::Half].map(|kind| {
        let network = Encoder::load(path, (kind, Device::Cpu)).unwrap();
        let rows = pictures().map(|picture| {
            let picture = network.fit(&picture).unwrap();
            network.embed_images(&[&picture], Pooling::Cls).unwrap()
        });
        Tensor::cat(&rows, 0)
    });
    let (own, pairs) = (apart(&full, &half), cosines_apart(&full, &half));
    println!("{what}: {own:e} from float32, cosines {pairs:e}");
    assert!(own < most.0 && pairs < most.1, "{what}: {own:e} {pairs:e}");
}

/// DreamSim's folder with weights that keep their input's variance, as trained ones about do; the formula's
/// double it and sharpen the attention, which amplifies any rounding.
pub fn calm_dreamsim(name: &str) -> PathBuf {
    let folder = dreamsim_folder(name);
    let update = folder.join("ensemble_lora/adapter_model.safetensors");
    scale(&update, |name| name.contains("lora_B").then_some(0.1));
    each_member(&folder, |name| {
        let matrix = name.ends_with("weight") && !name.contains("norm");
        (name.starts_with("blocks") && matrix).then_some(0.7)
    });
    folder
}

fn each_member(folder: &Path, gain: impl Fn(&str) -> Option<f64>) {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    for file in entries.filter(|entry| entry.path().is_file()) {
        scale(&file.path(), &gain);
    }
}

#[test]
fn dreamsim_stays_within_a_thousandth() {
    tch::set_num_threads(1);
    for (part, gain) in [
        ("none", 1.0),
        ("patch_embed", 1e6),
        ("patch_embed", 1e-6),
        ("proj", 1e6),
    ] {
        let folder = calm_dreamsim("dreamsim_half");
        each_member(&folder, |name| name.starts_with(part).then_some(gain));
        // 6.2e-7 and 3.1e-4 are the most that was measured, on processors of two makers.
        close(&format!("dreamsim {part} {gain}"), &folder, (2e-6, 1e-3));
    }
}

/// A convolution's gain that its batch norm takes out again, whose variances are then beyond float16.
#[test]
fn inception_stays_within_a_thousandth() {
    tch::set_num_threads(1);
    for gain in [1.0, 300.0, 1e4] {
        let file = inception_file("inception_half");
        scale(&file, |name| match name.rsplit_once('.')?.1 {
            "running_mean" => Some(gain),
            "running_var" => Some(gain * gain),
            "weight" if name.ends_with("conv.weight") => Some(gain),
            _ => None,
        });
        // 1.4e-7 and 6.0e-6 are the most that was measured, AVX2 alone included.
        close(&format!("inception {gain}"), &file, (5e-7, 2e-5));
    }
}

/// Activations whose squares leave float16's range below and above, as trained networks have them.
#[test]
fn lpips_stays_within_a_thousandth() {
    tch::set_num_threads(1);
    for (name, kernels, widths, gain) in [
        ("alex", &ALEX[..], ALEX_WIDTHS, 1.0),
        ("alex", &ALEX[..], ALEX_WIDTHS, 1e-3),
        ("alex", &ALEX[..], ALEX_WIDTHS, 300.0),
        ("vgg", &VGG[..], VGG_WIDTHS, 1.0),
        ("vgg", &VGG[..], VGG_WIDTHS, 300.0),
    ] {
        let folder = lpips_folder(&format!("half_{name}"), kernels, widths);
        scale(&folder.join("trunk.safetensors"), |name| {
            name.starts_with("features.0.").then_some(gain)
        });
        let [full, half] = [Kind::Float, Kind::Half].map(|kind| lpips_distances(&folder, kind));
        for (full, half) in full.iter().zip(&half) {
            println!("lpips {name}, gain {gain}: {full} and {half}");
            // 1.4e-4 is the most that was measured.
            assert!((full - half).abs() < 3e-4 * full.abs(), "{full} and {half}");
        }
    }
}

/// Activations whose squares leave float16's range, as in LPIPS' trunk.
#[test]
fn dists_stays_within_a_thousandth() {
    tch::set_num_threads(1);
    for gain in [1.0, 1e-3, 300.0] {
        let folder = dists_folder("half");
        scale(&folder.join("trunk.safetensors"), |name| {
            name.starts_with("features.0.").then_some(gain)
        });
        let [full, half] =
            [Kind::Float, Kind::Half].map(|kind| dists_distances(&folder, kind, &[48])[0]);
        println!("dists, gain {gain}: {full} and {half}");
        // 3.1e-4 is the most that was measured.
        assert!((full - half).abs() < 1e-3 * full.abs(), "{full} and {half}");
    }
}
