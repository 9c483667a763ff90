//! Fixtures by name, the largest difference of two tensors, the Python of the reference, and what is said
//! of tests that cannot run.

pub mod chat_server;
pub mod python;
pub mod scores;
pub mod scratch;
pub mod skip;

pub mod policy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::{Decoder, LmInput, load_folder, read_tensors};
use tch::{Device, Kind, Tensor};

/// The fixtures of tests/parity/networks.
pub const NETWORKS: [&str; 4] = ["qwen2_tied", "qwen2_untied", "qwen3_tied", "qwen3_untied"];

/// A path below tests/.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(path)
}

/// The folder of one of [`NETWORKS`].
pub fn network_folder(name: &str) -> PathBuf {
    fixture("parity/networks").join(name)
}

/// One of [`NETWORKS`] in `kind`. Tests run side by side, so each computes with one thread.
pub fn network(name: &str, kind: Kind) -> Decoder {
    tch::set_num_threads(1);
    load_folder(&network_folder(name), kind, Device::Cpu).unwrap()
}

/// What the reference says of one of [`NETWORKS`].
pub fn expected(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(&network_folder(name).join("expected.safetensors")).unwrap()
}

/// `expected.safetensors` of a fixture's folder.
pub fn expected_of(folder: &Path) -> BTreeMap<String, Tensor> {
    read_tensors(&folder.join("expected.safetensors")).unwrap()
}

/// The numbers of an int64 tensor.
pub fn ints(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor).unwrap()
}

/// Packs each of `sequences` as a segment of its own.
pub fn packed(sequences: &[Vec<i64>]) -> LmInput {
    let mut input = LmInput::builder();
    for ids in sequences {
        input.push(ids, None);
    }
    input.build(Device::Cpu)
}

/// The largest absolute difference of two tensors of one shape, in float64.
pub fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double))
        .abs()
        .max()
        .double_value(&[])
}

/// The larger of two differences; NaN when one is, which no bound lets pass (`f64::max` would drop it).
pub fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    a.max(b)
}

/// [`gap`] relative to the largest number of `b`; a `b` of zeros gives the absolute gap.
pub fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let scale = b.to_kind(Kind::Double).abs().max().double_value(&[]);
    gap(a, b) / if scale > 0.0 { scale } else { 1.0 }
}
