//! Frozen parts of a policy cost their weights alone, and a checkpoint of before they lay apart
//! continues as one of today.

use models::{Component, Decoder, Recompute, load_folder_frozen, write_tensors};
use serde_json::json;
use tch::{Device, Kind, Tensor};
use trainer::config::{Dtype, OptimizerConfig};
use trainer::learn::AdamW;
use trainer::{Checkpoint, TrainingMemory};

use crate::support::{fixture, policy};

const FROZEN: [&[Component]; 4] = [
    &[],
    &[Component::Vision],
    &[Component::Vision, Component::Projector],
    &[Component::Vision, Component::Decoder],
];

fn network(frozen: &[Component], kind: Kind) -> Decoder {
    let folder = fixture("parity/vlm/qwen3_vl");
    load_folder_frozen(&folder, frozen, (kind, Device::Cpu)).unwrap()
}

#[test]
fn what_is_frozen_costs_its_weights_alone() {
    for (kind, dtype) in [
        (Kind::Float, Dtype::Float32),
        (Kind::BFloat16, Dtype::Bfloat16),
    ] {
        for frozen in FROZEN {
            let model = network(frozen, kind);
            let (shape, leaves) = (model.config.clone(), model.params.leaves().to_vec());
            let learner = policy::learner(model, Recompute::None);
            let (told, held) = (TrainingMemory::of(&shape, frozen, dtype), learner.memory());
            // Gaps before leaves, at most 15 elements each.
            let learning = leaves.iter().filter(|leaf| leaf.trains()).count() as i64;
            let gaps = |told: i64, held: i64, leaves: i64, bytes: i64| {
                let gap = held - told;
                let most = 15 * bytes * leaves;
                assert!(
                    (0..=most).contains(&gap),
                    "{frozen:?} {kind:?}: {held} for {told}"
                );
            };
            let element = kind.elt_size_in_bytes() as i64;
            let state = |narrow: i64| if kind == Kind::BFloat16 { narrow } else { 0 };
            gaps(told.weights, held.weights, leaves.len() as i64, element);
            gaps(told.gradients, held.gradients, learning, element + state(4));
            gaps(told.optimizer, held.optimizer, learning, 8 + state(4));
            let learn = shape.parameters_without(frozen);
            assert_eq!(told.weights, element * shape.parameters());
            assert_eq!(told.gradients, (element + state(4)) * learn);
            assert_eq!(told.optimizer, (8 + state(4)) * learn);
        }
    }
}

/// Moments that differ from each other, as an optimizer that has worked would have them. Drawn from no generator: tests
/// that run beside this one share libtorch's.
fn worked(model: &Decoder) -> AdamW {
    let mut optimizer = AdamW::new(model, &OptimizerConfig::default());
    tch::no_grad(|| {
        let mut start = 0;
        for tensor in [&optimizer.exp_avg, &optimizer.exp_avg_sq] {
            for (leaf, mut part) in model.params.split(tensor) {
                let count =
                    Tensor::arange_start(start, start + leaf.numel(), (Kind::Float, Device::Cpu));
                part.copy_(&count.sin().view(leaf.shape.as_slice()));
                start += leaf.numel();
            }
        }
    });
    optimizer.updates = 3;
    optimizer
}

/// Reads `stored` as a checkpoint's optimizer file into a fresh optimizer of `model`.
fn read(stored: &[(String, Tensor)], model: &Decoder) -> Result<AdamW, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("trainer")).unwrap();
    let path = folder.path().join("trainer/optimizer.safetensors");
    write_tensors(&path, stored).unwrap();
    let state = json!({
        "stage": "sft", "stage_index": 0, "step": 3, "updates": 3, "tokens": 0,
        "cursor": {"draws": 0, "strands": {}}, "world_size": 1, "threads": 1,
    });
    let checkpoint = Checkpoint {
        path: folder.path().to_owned(),
        state: serde_json::from_value(state).unwrap(),
        provenance: None,
        sum: 0,
    };
    let mut optimizer = AdamW::new(model, &OptimizerConfig::default());
    let done = checkpoint.load_optimizer(&mut optimizer, model);
    done.map(|()| optimizer).map_err(|error| error.to_string())
}

#[test]
fn optimizer_files_over_all_parameters_are_read() {
    for kind in [Kind::Float, Kind::BFloat16] {
        // Nothing frozen: the buffer of what learns is the one over all.
        let whole = network(&[], kind);
        let stored = worked(&whole).tensors();
        for frozen in FROZEN {
            let model = network(frozen, kind);
            let optimizer = read(&stored, &model).unwrap();
            assert_eq!(optimizer.updates, 3);
            let mut compared = 0;
            for ((name, own), (_, joint)) in optimizer.tensors().iter().zip(&stored) {
                let all = whole.params.split(joint);
                let learn = all.filter(|(leaf, _)| !frozen.contains(&leaf.component));
                for ((_, want), (leaf, got)) in learn.zip(model.params.split(own)) {
                    assert!(got == want, "{name} {frozen:?}");
                    compared += leaf.numel();
                }
            }
            let state = if kind == Kind::BFloat16 { 3 } else { 2 };
            let learn = model.config.parameters_without(frozen);
            assert_eq!(compared, state * learn, "{frozen:?}");
        }
        let told = |tensors: &[(String, Tensor)]| {
            let model = network(&[Component::Vision], kind);
            read(tensors, &model).map(drop).unwrap_err()
        };
        let mut short = worked(&whole).tensors();
        short[1].1 = short[1].1.narrow(0, 0, 100);
        let said = told(&short);
        assert!(said.contains("exp_avg_sq has [100] numbers"), "{said}");
        let said = told(&stored[1..]);
        assert!(said.contains("exp_avg is missing"), "{said}");
    }
}
