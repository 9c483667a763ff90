//! Frozen parts of a policy cost their weights alone, and a checkpoint of before they lay apart
//! continues as one of today.

use std::collections::BTreeMap;

use models::{Component, Decoder, Recompute, load_folder_frozen};
use tch::{Device, Kind, Tensor};
use trainer::TrainingMemory;
use trainer::config::{Dtype, OptimizerConfig};
use trainer::learn::AdamW;

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

#[test]
fn optimizer_files_over_all_parameters_are_read() {
    for kind in [Kind::Float, Kind::BFloat16] {
        // Nothing frozen: the buffer of what learns is the one over all.
        let whole = network(&[], kind);
        let stored =
            || -> BTreeMap<String, Tensor> { worked(&whole).tensors().into_iter().collect() };
        for frozen in FROZEN {
            let model = network(frozen, kind);
            let mut optimizer = AdamW::new(&model, &OptimizerConfig::default());
            optimizer.restore(stored(), &model.params).unwrap();
            let wanted = stored();
            let mut compared = 0;
            for (name, own) in optimizer.tensors() {
                let joint = &wanted[&name];
                let all = whole.params.split(joint);
                let learn = all.filter(|(leaf, _)| !frozen.contains(&leaf.component));
                for ((_, want), (leaf, got)) in learn.zip(model.params.split(&own)) {
                    assert!(got == want, "{name} {frozen:?}");
                    compared += leaf.numel();
                }
            }
            let state = if kind == Kind::BFloat16 { 3 } else { 2 };
            let learn = model.config.parameters_without(frozen);
            assert_eq!(compared, state * learn, "{frozen:?}");
        }
        let told = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            let model = network(&[Component::Vision], kind);
            let mut optimizer = AdamW::new(&model, &OptimizerConfig::default());
            let mut tensors = stored();
            change(&mut tensors);
            optimizer.restore(tensors, &model.params).unwrap_err()
        };
        let short = told(&|tensors| {
            let cut = tensors["exp_avg_sq"].narrow(0, 0, 100);
            tensors.insert("exp_avg_sq".into(), cut);
        });
        assert!(short.contains("exp_avg_sq has [100] numbers"), "{short}");
        let missing = told(&|tensors| drop(tensors.remove("exp_avg")));
        assert_eq!(missing, "exp_avg is missing");
    }
}
