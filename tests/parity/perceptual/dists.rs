//! DISTS against its package, by numbers of make.py beside this.

use std::path::{Path, PathBuf};

use models::encoder::{DistanceInput, DistanceNetwork, Dists};
use models::write_tensors;
use svg::Filter;
use tch::{Device, Kind, Tensor};

use super::{VGG, VGG_WIDTHS, close, expected, pictures, write};
use crate::cli::program::scratch;

/// The tensors of torchvision's vgg16 as far as its features go.
fn vgg_names() -> Vec<(String, Vec<i64>)> {
    let mut input = 3;
    let mut names = Vec::new();
    for (index, out, kernel) in VGG {
        let name = format!("features.{index}");
        names.push((format!("{name}.weight"), vec![out, input, kernel, kernel]));
        names.push((format!("{name}.bias"), vec![out]));
        input = out;
    }
    names
}

/// A folder with torchvision's vgg16 and the DISTS package's weights, as users would put it together.
pub fn dists_folder(name: &str) -> PathBuf {
    let folder = scratch(&format!("dists_{name}"));
    let mut trunk = vgg_names();
    // Unread: the classifier that torchvision's files carry.
    trunk.push(("classifier.6.bias".into(), vec![10]));
    write(&folder.join("trunk.safetensors"), "", &trunk);
    let all = vec![1, 3 + VGG_WIDTHS.iter().sum::<i64>(), 1, 1];
    let weights = ["alpha", "beta"].map(|name| (name.to_owned(), all.clone()));
    write(&folder.join("weights.safetensors"), "", &weights);
    folder
}

/// The distance of the two pictures at each of these sides.
pub fn dists_distances(folder: &Path, kind: Kind, sides: &[u32]) -> Vec<f64> {
    let network = Dists::load(folder, (kind, Device::Cpu)).unwrap();
    let distance = |&side: &u32| {
        let features = pictures().map(|picture| {
            let square = picture.resized(side as usize, side as usize, Filter::Bicubic);
            network.features(&[&square], DistanceInput::Unit).unwrap()
        });
        let [a, b] = &features;
        assert!(network.distances(a, a).unwrap().double_value(&[0]).abs() < 1e-6);
        network.distances(a, b).unwrap().double_value(&[0])
    };
    sides.iter().map(distance).collect()
}

#[test]
fn dists_equals_its_package() {
    tch::set_num_threads(1);
    let folder = dists_folder("parity");
    let want = ["48", "45"].map(|side| expected()["dists"][side].as_f64().unwrap());
    for kind in [Kind::Double, Kind::Float] {
        close(
            "dists",
            kind,
            &dists_distances(&folder, kind, &[48, 45]),
            &want,
        );
    }
    // The package's whole state dict in one file is the same network.
    let whole = scratch("dists_whole").join("dists.safetensors");
    let starts = [0, 5, 10, 17, 24];
    let mut tensors = Vec::new();
    for file in ["trunk.safetensors", "weights.safetensors"] {
        for (name, tensor) in models::read_tensors(&folder.join(file)).unwrap() {
            let own = |rest: &str| {
                let index: usize = rest.split('.').next().unwrap().parse().unwrap();
                let stage = starts.iter().filter(|start| **start <= index).count();
                format!("stage{stage}.{rest}")
            };
            let name = name.strip_prefix("features.").map_or(name.clone(), own);
            tensors.push((name, tensor));
        }
    }
    let filter = Tensor::ones([64, 1, 3, 3], (Kind::Float, Device::Cpu));
    tensors.push(("stage2.4.filter".into(), filter));
    write_tensors(&whole, &tensors).unwrap();
    close(
        "dists in one file",
        Kind::Double,
        &dists_distances(&whole, Kind::Double, &[48]),
        &want[..1],
    );
}
