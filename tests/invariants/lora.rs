//! Adapters: what dropout may not depend on, what they hold in memory, the base without them, and the
//! engine that samples with them.

use std::rc::Rc;
use std::sync::Arc;

use models::{
    AdapterMode, Decoder, LoraConfig, LoraTargets, ModelConfig, Recompute, VisionFeatures,
};
use rollout::{Request, Sampling, Submission};
use tch::{Device, Kind, Tensor};
use trainer::config::{Aggregation, Dtype, ShardingConfig};
use trainer::learn::{HeadOptions, LossNorm, MicroBatch, Trajectory, micro_batches};
use trainer::{Learner, Learning, TrainingMemory};

use crate::support::{fixture, gap, larger, network_folder, policy, relative};

const HEAD: HeadOptions = HeadOptions {
    temperature: 1.0,
    rows: 0,
};

/// Adapters on all linear maps.
pub fn lora(dropout: f64) -> LoraConfig {
    LoraConfig {
        rank: 4,
        alpha: 8.0,
        dropout,
        ..LoraConfig::default()
    }
}

/// The adapters of tests/parity/lora/qwen3, narrowed for log-probabilities of a trained network's size.
pub fn adapted(dropout: f64, kind: Kind) -> Decoder {
    tch::set_num_threads(1);
    let folder = fixture("parity/lora/qwen3");
    ModelConfig::default()
        .adapted(&folder, (&lora(dropout), 11), (kind, Device::Cpu))
        .unwrap()
}

/// Three completions of one prompt, and one of another.
fn trajectories(shared: bool) -> Vec<Trajectory> {
    let prompt: Arc<[i64]> = Arc::from([5, 9, 11, 2]);
    let one = |prompt: &Arc<[i64]>, ids: &[i64]| Trajectory {
        prompt: match shared {
            true => prompt.clone(),
            false => Arc::from(prompt.to_vec()),
        },
        view: None,
        sampler_logprobs: vec![0.0; ids.len()],
        ids: ids.to_vec(),
        advantage: 1.0,
    };
    let other: Arc<[i64]> = Arc::from([7]);
    vec![
        one(&prompt, &[1, 2, 3]),
        one(&prompt, &[1, 4]),
        one(&prompt, &[30, 31, 32, 33]),
        one(&other, &[40, 41]),
    ]
}

fn micros(shared: bool, budget: usize) -> Vec<MicroBatch> {
    let norm = LossNorm {
        aggregation: Aggregation::TokenMean,
        tokens: 11.0,
        sequences: 4.0,
        constant: 1.0,
    };
    micro_batches(&trajectories(shared), &norm, budget, Device::Cpu)
}

/// The gradients of the mean log-probability at update number `update`.
fn gradient(dropout: f64, recompute: Recompute, micros: &[MicroBatch], update: u64) -> Tensor {
    let mut learner = policy::learner(adapted(dropout, Kind::Double), recompute);
    learner.optimizer.updates = update;
    for micro in micros {
        learner
            .forward_backward(micro, &HEAD, &mut |start, logprobs, _| {
                let weight = micro.weight.narrow(0, start, logprobs.size()[0]);
                (logprobs * weight).sum(logprobs.kind())
            })
            .unwrap();
    }
    learner.model.params.grad().unwrap().copy()
}

#[test]
fn dropout_depends_on_tokens_and_update_alone() {
    let whole = gradient(0.3, Recompute::None, &micros(true, 1000), 0);
    assert!(whole.norm().double_value(&[]) > 0.0);
    let again = gradient(0.3, Recompute::Blocks, &micros(true, 1000), 0);
    assert!(
        whole == again,
        "a block that is run again has the same mask"
    );
    for (shared, budget) in [(false, 1000), (true, 6), (false, 1)] {
        let micros = micros(shared, budget);
        let worst = relative(&gradient(0.3, Recompute::None, &micros, 0), &whole);
        assert!(
            worst < 1e-12,
            "{} micro-batches, shared {shared}: {worst:e}",
            micros.len()
        );
    }
    let mut reversed = micros(true, 6);
    reversed.reverse();
    let worst = relative(&gradient(0.3, Recompute::None, &reversed, 0), &whole);
    assert!(worst < 1e-12, "{worst:e}");
    for (dropout, update) in [(0.3, 1), (0.0, 0)] {
        let other = gradient(dropout, Recompute::None, &micros(true, 1000), update);
        let apart = relative(&other, &whole);
        assert!(apart > 1e-3, "{dropout} at {update}: {apart:e}");
    }
}

#[test]
fn sampler_and_learner_agree_with_adapters_whether_they_learn_with_dropout_or_not() {
    for (kind, most) in [(Kind::Float, 1e-5), (Kind::Double, 1e-6)] {
        let model = adapted(0.5, kind);
        tch::no_grad(|| {
            // As in tests/invariants/sampling.rs: the fixtures stretch rounding.
            let mut frozen = model.params.frozen().shallow_clone();
            frozen *= 0.6;
        });
        let model = Rc::new(model);
        let mut engine = policy::engine(&model, None, 3);
        let prompt: Arc<[i64]> = Arc::from([5, 9, 11, 2]);
        let request = Request {
            group: 0,
            ids: prompt.clone(),
            images: None,
            samples: 6,
            draw: 3,
            lengths: None,
        };
        let sampling = Sampling {
            max_new_tokens: 24,
            ..Sampling::default()
        };
        engine
            .submit(Submission {
                requests: vec![request],
                sampling,
                seed: 5,
            })
            .unwrap();
        let mut all = Vec::new();
        while let Some(finished) = engine.next().unwrap() {
            all.push(Trajectory {
                prompt: prompt.clone(),
                view: None,
                ids: finished.completion.ids.clone(),
                sampler_logprobs: finished.completion.logprobs.clone(),
                advantage: 0.0,
            });
        }
        let norm = LossNorm {
            aggregation: Aggregation::TokenMean,
            tokens: 1.0,
            sequences: 1.0,
            constant: 1.0,
        };
        let (mut worst, mut off): (f64, f64) = (0.0, 0.0);
        for micro in micro_batches(&all, &norm, 60, Device::Cpu) {
            let under = |mode: AdapterMode| {
                let look = VisionFeatures::Cached;
                Learner::log_probs(&model, &micro, &HEAD, look, mode).unwrap()
            };
            worst = larger(worst, gap(&under(AdapterMode::On), &micro.sampler));
            off = larger(off, gap(&under(AdapterMode::Off), &micro.sampler));
        }
        println!("{kind:?}: {worst:e}, without adapters {off:e}");
        // The sampler's are float32.
        assert!(worst < most, "{kind:?}: {worst:e}");
        assert!(off > 0.1, "{kind:?}: adapters count: {off:e}");
    }
}

#[test]
fn the_base_costs_its_weights_alone_and_the_formula_knows() {
    for (kind, dtype) in [
        (Kind::Float, Dtype::Float32),
        (Kind::BFloat16, Dtype::Bfloat16),
    ] {
        let model = adapted(0.0, kind);
        let shape = model.config.clone();
        let matrices = model
            .params
            .adapters()
            .iter()
            .flat_map(|one| [&one.a, &one.b]);
        let count: i64 = matrices.map(|spec| spec.numel()).sum();
        let units = shape.adapter_units(&lora(0.0)).unwrap();
        assert_eq!(units.iter().sum::<i64>(), count);
        let leaves = model.params.leaves();
        let (all, learning) = (
            leaves.len() as i64,
            leaves.iter().filter(|leaf| leaf.trains()).count() as i64,
        );
        let learner = policy::learner(model, Recompute::None);
        let learns = Learning::adapters(&shape, units, dtype);
        let told = TrainingMemory::of_rank(&shape, &learns, (&ShardingConfig::default(), 1));
        let held = learner.memory();
        let element = kind.elt_size_in_bytes() as i64;
        assert_eq!(told.weights, element * shape.parameters() + 4 * count);
        assert_eq!((told.gradients, told.optimizer), (4 * count, 8 * count));
        for (told, held, most) in [
            (told.weights, held.weights, 15 * 4 * all),
            (told.gradients, held.gradients, 15 * 4 * learning),
            (told.optimizer, held.optimizer, 15 * 8 * learning),
        ] {
            assert!(
                (0..=most).contains(&(held - told)),
                "{kind:?}: {held} for {told}"
            );
        }
    }
}

#[test]
fn an_update_moves_adapters_and_no_bit_of_the_base() {
    let mut learner = policy::learner(adapted(0.1, Kind::Float), Recompute::Blocks);
    let base = learner.model.params.frozen().copy();
    let before = learner.model.params.trainable().copy();
    for micro in micros(true, 6) {
        learner
            .forward_backward(&micro, &HEAD, &mut |_, logprobs, _| {
                logprobs.sum(logprobs.kind()).neg()
            })
            .unwrap();
    }
    assert!(learner.optimizer_step(1e-2, Some(1.0)).unwrap().applied);
    assert!(*learner.model.params.frozen() == base);
    assert!(*learner.model.params.trainable() != before);
}

#[test]
fn merged_weights_are_the_network_with_adapters() {
    for name in ["qwen3", "qwen2_5_vl"] {
        let folder = fixture("parity/lora").join(name);
        let place = (Kind::Double, Device::Cpu);
        let section = ModelConfig::default();
        let (beside, merged) = (
            section.open(&folder, place).unwrap(),
            section.reload(&folder, place).unwrap(),
        );
        assert!(merged.adapters().is_none() && merged.params.adapters().is_empty());
        assert_eq!(merged.params.frozen().numel(), 0, "all of it can learn");
        let mut input = models::LmInput::builder();
        input.push(&[3, 1, 4, 1, 5, 9, 2, 6], None);
        let input = input.build(Device::Cpu);
        let of = |model: &Decoder| tch::no_grad(|| model.logits(&model.hidden(&input)));
        let worst = relative(&of(&merged), &of(&beside));
        assert!(worst < 1e-12, "{name}: {worst:e}");
        // An engine elsewhere is given the same numbers.
        for spec in merged.params.specs() {
            let own = beside
                .params
                .specs()
                .iter()
                .find(|one| one.name == spec.name);
            let given = beside.weight(own.unwrap());
            assert!(
                relative(&given, &merged.params.view(spec)) < 1e-14,
                "{}",
                spec.name
            );
        }
    }
}

#[test]
fn fresh_adapters_have_no_effect_and_a_layer_s_numbers_are_its_own() {
    let of = |targets: LoraTargets, seed: u64| {
        let lora = LoraConfig {
            targets,
            ..lora(0.0)
        };
        let place = (Kind::Float, Device::Cpu);
        ModelConfig::default()
            .adapted(&network_folder("qwen3_tied"), (&lora, seed), place)
            .unwrap()
    };
    let all = of(lora(0.0).targets, 1);
    let named =
        |names: &[&str]| LoraTargets::Names(names.iter().map(|name| (*name).to_owned()).collect());
    let some = of(named(&["k_proj"]), 1);
    assert_eq!(some.params.adapters().len(), all.config.num_layers as usize);
    for own in some.params.adapters() {
        let same = all
            .params
            .adapters()
            .iter()
            .find(|one| one.module == own.module);
        assert!(all.params.view(&same.unwrap().a) == some.params.view(&own.a));
        let bound = 1.0 / (own.a.shape[1] as f64).sqrt();
        let a = some.params.view(&own.a);
        assert!(a.abs().max().double_value(&[]) <= bound);
        assert!(a.std(true).double_value(&[]) > 0.4 * bound);
        assert_eq!(some.params.view(&own.b).abs().max().double_value(&[]), 0.0);
    }
    assert!(*of(named(&["k_proj"]), 2).params.trainable() != *some.params.trainable());
    let lora = |targets: LoraTargets, vision: bool| LoraConfig {
        targets,
        vision,
        ..lora(0.0)
    };
    let said = |lora: &LoraConfig| all.config.adapter_units(lora).unwrap_err().to_string();
    assert!(said(&lora(named(&["k_prok"]), false)).contains("`k_prok`"));
    assert!(said(&lora(named(&["k_proj"]), true)).contains("reads text only"));
    let seeing = ModelConfig {
        path: Some(fixture("parity/vlm/qwen3_vl")),
        ..ModelConfig::default()
    };
    let seeing = seeing
        .open(&fixture("parity/vlm/qwen3_vl"), (Kind::Float, Device::Cpu))
        .unwrap();
    let said = |lora: &LoraConfig| seeing.config.adapter_units(lora).unwrap_err().to_string();
    assert!(said(&lora(named(&["linear_fc1"]), false)).contains("`vision: true`"));
    assert!(
        seeing
            .config
            .adapter_units(&lora(named(&["linear_fc1"]), true))
            .is_ok()
    );
}
