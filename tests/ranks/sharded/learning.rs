//! Every stage of sharding against one rank that holds everything.

use std::collections::BTreeMap;
use std::rc::Rc;

use models::{AdapterMode, Decoder, Recompute, VisionFeatures, read_tensors};
use tch::{Device, Kind, Tensor};
use trainer::config::{Dtype, ShardingConfig};
use trainer::learn::place_reference;
use trainer::learn::shares::ShardLayout;
use trainer::{Learner, Learning, Ranks, TrainingMemory};

use super::process::{ADAPTED, Case, HEAD, learn, learner_of, own_micros, run};
use crate::cli::program::scratch;
use crate::invariants::lora::lora;
use crate::support::{gap, network, relative};

type Left = BTreeMap<String, Tensor>;

/// What one rank alone leaves.
fn alone(case: &Case) -> Left {
    let folder = scratch(&format!("sharded_alone_{}_{:?}", case.network, case.kind));
    let path = folder.join("alone.safetensors");
    let ranks = Rc::new(Ranks::single(Device::Cpu));
    let model = learner_of(case.network, case.kind);
    learn(model, &ranks, (0, Recompute::None), &path);
    read_tensors(&path).unwrap()
}

/// The gradients of all of what learns, from the ranks' files.
fn gradient(case: &Case, model: &Decoder, left: &[Left]) -> Tensor {
    let learn = model.params.trainable_len();
    let whole = Tensor::zeros([learn], (Kind::Float, Device::Cpu));
    for (rank, left) in left.iter().enumerate() {
        let own = &left["gradient"];
        if case.stage < 2 {
            assert_eq!(own.size(), [learn]);
            return own.copy();
        }
        let layout = ShardLayout::new(&model.params.units(), (rank, case.size));
        assert_eq!(own.size(), [layout.share()]);
        for part in layout.stretches() {
            whole
                .narrow(0, part.start, part.len)
                .copy_(&own.narrow(0, part.local, part.len));
        }
    }
    whole
}

fn same_as_alone(case: Case) {
    let alone = alone(&case);
    let left: Vec<Left> = run(case)
        .iter()
        .map(|path| read_tensors(path).unwrap())
        .collect();
    let model = learner_of(case.network, case.kind);
    let gradient = gradient(&case, &model, &left);
    for own in &left {
        for name in ["loss", "norms", "weights", "logprobs"] {
            assert!(
                own[name] == left[0][name],
                "{case:?}: ranks differ in {name}"
            );
        }
    }
    let own = &left[0];
    let loss = relative(&own["loss"], &alone["loss"]);
    let norms = relative(&own["norms"], &alone["norms"]);
    let gradient = relative(&gradient, &alone["gradient"]);
    let weights = gap(&own["weights"], &alone["weights"]);
    let logprobs = relative(&own["logprobs"], &alone["logprobs"]);
    println!(
        "{case:?}: loss {loss:e}, gradient {gradient:e}, norms {norms:e}, weights {weights:e}, log-probabilities {logprobs:e}"
    );
    assert!(loss < 1e-5 && norms < 1e-5 && gradient < 1e-5, "{case:?}");
    assert!(weights < 1e-6 && logprobs < 1e-5, "{case:?}");
    for own in &left {
        within_the_formula(&case, &model, own);
    }
}

/// Bytes that the formula leaves out: gaps of up to 15 elements before leaves, and at the ends of shares.
fn within_the_formula(case: &Case, model: &Decoder, own: &Left) {
    let (dtype, width) = match case.kind {
        Kind::BFloat16 => (Dtype::Bfloat16, 2),
        _ => (Dtype::Float32, 4),
    };
    let learns = match case.network {
        ADAPTED => {
            let units = model.config.adapter_units(&lora(0.2)).unwrap();
            Learning::adapters(&model.config, units, dtype)
        }
        _ => Learning::of(&model.config, &[], dtype),
    };
    let sharding = ShardingConfig {
        stage: case.stage,
        ..ShardingConfig::default()
    };
    let told = TrainingMemory::of_rank(&model.config, &learns, (&sharding, case.size));
    let held: Vec<i64> = Vec::try_from(&own["bytes"]).unwrap();
    let gaps = 15 * model.params.leaves().len() as i64 + 16 * model.params.units().len() as i64;
    let parts = [
        ("weights", told.weights, gaps * width),
        ("gradients", told.gradients, gaps * (width + 4)),
        ("optimizer", told.optimizer, gaps * 12),
        // A few units at a time, each rounded up for every rank.
        ("moving", told.moving, 4 * 16 * 16 * case.size as i64 * 6),
    ];
    for ((what, told, gap), held) in parts.into_iter().zip(held) {
        let over = held - told;
        println!("{case:?}: {what} {held} bytes for {told}");
        assert!(
            (0..=gap).contains(&over),
            "{case:?}: {what} {held} for {told}"
        );
    }
}

#[test]
fn a_reference_policy_that_is_brought_block_by_block_says_the_same() {
    let ranks = Rc::new(Ranks::single(Device::Cpu));
    for name in ["qwen3_untied", "qwen3_tied"] {
        let whole = network(name, Kind::Float);
        let mut moved = network(name, Kind::Float);
        place_reference(&mut moved, &ranks, (false, Device::Cpu)).unwrap();
        for micro in own_micros(&ranks) {
            let look = VisionFeatures::Cached;
            let mode = AdapterMode::On;
            let of =
                |model: &Decoder| Learner::log_probs(model, &micro, &HEAD, look, mode).unwrap();
            assert!(of(&moved) == of(&whole), "{name}");
        }
    }
}

fn case(stage: u8, size: usize) -> Case {
    Case {
        network: "qwen3_untied",
        kind: Kind::Float,
        recompute: Recompute::None,
        stage,
        size,
    }
}

#[test]
fn two_ranks_learn_at_every_stage_what_one_does() {
    for stage in 0..=3 {
        same_as_alone(case(stage, 2));
    }
}

#[test]
fn four_ranks_learn_at_every_stage_what_one_does() {
    for stage in 0..=3 {
        same_as_alone(case(stage, 4));
    }
}

#[test]
fn a_tied_head_and_blocks_computed_anew_are_shared_out_too() {
    for stage in [2, 3] {
        for recompute in [Recompute::None, Recompute::Blocks] {
            same_as_alone(Case {
                network: "qwen3_tied",
                recompute,
                ..case(stage, 2)
            });
        }
    }
}

#[test]
fn adapters_are_shared_out_too() {
    for stage in 0..=3 {
        same_as_alone(Case {
            network: ADAPTED,
            recompute: Recompute::Blocks,
            ..case(stage, 2)
        });
    }
}

#[test]
fn bfloat16_weights_have_their_masters_in_the_shares() {
    let of = |stage: u8| Case {
        kind: Kind::BFloat16,
        ..case(stage, 4)
    };
    let left = |case: Case| -> Vec<Left> {
        let paths = run(case);
        paths
            .iter()
            .map(|path| read_tensors(path).unwrap())
            .collect()
    };
    let model = network("qwen3_untied", Kind::BFloat16);
    let whole = left(of(0));
    let expected = gradient(&of(0), &model, &whole);
    for stage in 1..=3 {
        let case = of(stage);
        let own = left(case);
        // The same passes in the same kind: sums over ranks alone may round otherwise.
        let gradient = relative(&gradient(&case, &model, &own), &expected);
        let weights = relative(&own[0]["weights"], &whole[0]["weights"]);
        println!("{case:?}: gradient {gradient:e}, weights {weights:e}");
        assert!(gradient < 1e-5, "{case:?}");
        // One rounding to eight bits.
        assert!(weights < 1e-2, "{case:?}");
        for own in &own {
            within_the_formula(&case, &model, own);
        }
    }
}

#[test]
fn the_optimizer_of_four_ranks_is_a_quarter_on_each() {
    let shape = network("qwen3_untied", Kind::Float).config;
    let of = |stage: u8, size: usize| {
        let sharding = ShardingConfig {
            stage,
            ..ShardingConfig::default()
        };
        let learns = Learning::of(&shape, &[], Dtype::Bfloat16);
        TrainingMemory::of_rank(&shape, &learns, (&sharding, size))
    };
    let (whole, quarter) = (of(0, 4), of(1, 4));
    let units = shape.unit_sizes(&[]).len() as i64;
    let rounding = 12 * 16 * units;
    assert!(quarter.optimizer >= whole.optimizer / 4);
    assert!(quarter.optimizer <= whole.optimizer / 4 + rounding);
    assert_eq!(
        (quarter.weights, quarter.gradients),
        (whole.weights, whole.gradients)
    );
    assert!(of(2, 4).gradients < whole.gradients / 4);
    assert!(of(3, 4).weights <= whole.weights / 4 + 2 * 16 * units);
}
