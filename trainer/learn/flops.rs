//! Model FLOPs of the learner, for `perf/mfu`.
//!
//! Counted as in PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): two for each weight of a
//! matrix and row, and attention's products with every row that is seen; a backward pass is twice its
//! forward pass. What is computed anew to save memory does not count, nor do norms and softmaxes.

use models::VisionFeatures;
use models::{Component, Decoder, LmInput};
use tch::{Device, Kind};

use super::batch::MicroBatch;

/// Forward and backward, in forward passes: where adapters learn alone, no gradients of the weights beside them are made.
pub fn training(model: &Decoder) -> f64 {
    match model.adapters() {
        None => 3.0,
        Some(_) => 2.0,
    }
}

/// FLOPs of one forward pass over `micro`, its completion tokens through the head and, where they are
/// looked at anew, its pictures through the tower.
pub fn forward(model: &Decoder, micro: &MicroBatch, source: VisionFeatures) -> f64 {
    let config = &model.config;
    let weights = |part: Component| -> f64 {
        let leaves = model.params.leaves().iter();
        let matrices = leaves.filter(|leaf| leaf.component == part && leaf.shape.len() > 1);
        matrices.map(|leaf| leaf.numel() as f64).sum()
    };
    let head = (config.vocab_size * config.hidden_size) as f64;
    let tables = if config.tied { head } else { 2.0 * head };
    let blocks = (weights(Component::Decoder) - tables) * micro.computed_rows() as f64;
    // Queries with keys, and their weights with values.
    let width = (config.num_layers * config.num_heads * config.head_dim) as f64;
    let attention = 2.0 * width * seen(&micro.input);
    let mut all = blocks + attention + head * micro.tokens() as f64;
    if let Some(eyes) = &config.vision {
        let pictures = micro.views.iter().flat_map(|view| &view.images.pictures);
        let (tokens, bytes) = pictures.fold((0, 0), |(tokens, bytes), picture| {
            (tokens + picture.tokens, bytes + picture.pixels.len())
        });
        all += weights(Component::Projector) * tokens as f64;
        if source == VisionFeatures::Recompute {
            let patches = bytes as f64 / (3 * eyes.tower.patch_size.pow(2)) as f64;
            all += weights(Component::Vision) * patches;
        }
    }
    2.0 * all
}

/// Pairs of a row and a row that it attends to.
fn seen(input: &LmInput) -> f64 {
    let pairs = input.segments.iter().map(|segment| {
        let own = segment.rows.len as f64;
        let prefix = segment.prefix.map_or(0, |at| input.segments[at].rows.len) as f64;
        own * (own + 1.0) / 2.0 + own * prefix
    });
    pairs.sum()
}

/// Dense products without sparsity, in TFLOP/s with 16-bit inputs, from the makers' data sheets; the
/// first name that a GPU's name contains counts.
const KNOWN: &[(&str, f64)] = &[
    ("B200", 2250.0),
    ("H200", 989.4),
    ("H100 PCIe", 756.5),
    ("H100", 989.4),
    ("H800", 989.4),
    ("A100", 311.9),
    ("A800", 311.9),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71.2),
];

/// FLOP/s that the device could do at most: `tflops` of the config, or what is known of the GPU in
/// 16-bit floats; `None` where neither says.
pub fn peak(tflops: f64, device: Device, kind: Kind) -> Option<f64> {
    if tflops > 0.0 {
        return Some(tflops * 1e12);
    }
    let name = torch_ext::device_name(device).ok().flatten()?;
    let wide = !matches!(kind, Kind::BFloat16 | Kind::Half);
    let known = KNOWN.iter().find(|(known, _)| name.contains(known));
    known.filter(|_| !wide).map(|(_, tflops)| tflops * 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_causal_and_see_a_prefix_whole() {
        let mut input = LmInput::builder();
        let prompt = input.push(&[1, 2, 3], None);
        input.push(&[4, 5], Some(prompt));
        // 1 + 2 + 3, then 3 + 1 and 3 + 2.
        assert_eq!(seen(&input.build(Device::Cpu)), 15.0);
    }

    #[test]
    fn a_cpu_has_a_peak_only_where_the_config_says_one() {
        assert_eq!(peak(0.0, Device::Cpu, Kind::BFloat16), None);
        assert_eq!(peak(1.5, Device::Cpu, Kind::Float), Some(1.5e12));
    }
}
