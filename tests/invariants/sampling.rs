//! The local engine against the learner and against itself with other slots and neighbours.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use models::{AdapterMode, Decoder, VisionFeatures};
use rollout::{Completion, Request, Sampling, Submission};
use tch::{Device, Kind, Tensor};
use trainer::Learner;
use trainer::config::Aggregation;
use trainer::learn::{HeadOptions, LossNorm, Trajectory, micro_batches};

use crate::support::{NETWORKS, gap, larger, network, policy};

/// Requests for prompts of 1 to 24 tokens.
fn requests(count: usize, samples: usize) -> Vec<Request> {
    let ids = |group: usize| -> Arc<[i64]> {
        (0..1 + group * 7 % 24)
            .map(|n| ((n * 13 + group * 29) % 64) as i64)
            .collect()
    };
    (0..count)
        .map(|group| Request {
            group,
            ids: ids(group),
            images: None,
            samples,
            draw: 1000 + group as u64,
            lengths: None,
        })
        .collect()
}

type Completions = BTreeMap<(usize, usize), Completion>;

/// Submits each of `batches` in turn and collects all completions.
fn sample(
    model: &Rc<Decoder>,
    sampling: &Sampling,
    slots: usize,
    batches: Vec<Vec<Request>>,
) -> Completions {
    let mut engine = policy::engine(model, None, slots);
    let mut out = Completions::new();
    for batch in batches {
        engine
            .submit(Submission {
                requests: batch,
                sampling: sampling.clone(),
                seed: 5,
            })
            .unwrap();
        while let Some(finished) = engine.next().unwrap() {
            assert!(
                out.insert((finished.group, finished.index), finished.completion)
                    .is_none()
            );
        }
    }
    out
}

/// A fixture with its weights scaled down. As they are, they stretch rounding beyond a trained
/// network's: both the sampler and the learner were up to 1.2e-5 from float64.
fn narrowed(name: &str) -> Rc<Decoder> {
    let model = network(name, Kind::Float);
    let mut flat = model.params.trainable().shallow_clone();
    tch::no_grad(|| flat *= 0.6);
    Rc::new(model)
}

#[test]
fn sampler_and_learner_give_the_same_log_probabilities() {
    for name in NETWORKS {
        let model = narrowed(name);
        let sampling = Sampling {
            temperature: 0.8,
            top_p: 0.95,
            max_new_tokens: 40,
            stop_token_ids: vec![3],
            ..Sampling::default()
        };
        let asked = requests(8, 4);
        let done = sample(&model, &sampling, 5, vec![asked.clone()]);
        let trajectories: Vec<Trajectory> = done
            .iter()
            .map(|((group, _), completion)| Trajectory {
                prompt: asked[*group].ids.clone(),
                view: None,
                ids: completion.ids.clone(),
                sampler_logprobs: completion.logprobs.clone(),
                advantage: 0.0,
            })
            .collect();
        assert_eq!(trajectories.len(), 32);
        let norm = LossNorm {
            aggregation: Aggregation::TokenMean,
            tokens: 1.0,
            sequences: 1.0,
            constant: 1.0,
        };
        let mut worst: f64 = 0.0;
        for micro in micro_batches(&trajectories, &norm, 300, Device::Cpu) {
            let own = Learner::log_probs(
                &model,
                &micro,
                &HeadOptions {
                    temperature: 0.8,
                    rows: 0,
                },
                VisionFeatures::Cached,
                AdapterMode::On,
            )
            .unwrap();
            worst = larger(worst, gap(&own, &micro.sampler));
        }
        println!("{name}: sampler against learner {worst:e}");
        assert!(worst < 1e-5, "{name}: {worst:e}");
    }
}

#[test]
fn log_probabilities_are_those_of_whole_sequences_without_a_cache() {
    let model = narrowed("qwen2_untied");
    let done = sample(
        &model,
        &Sampling {
            max_new_tokens: 30,
            ..Sampling::default()
        },
        0,
        vec![requests(3, 1)],
    );
    for ((group, _), completion) in &done {
        let prompt = requests(3, 1)[*group].ids.clone();
        let ids = [&prompt, completion.ids.as_slice()].concat();
        let all = tch::no_grad(|| model.logits(&model.hidden(&crate::support::packed(&[ids]))))
            .log_softmax(-1, None);
        let rows = all.narrow(0, prompt.len() as i64 - 1, completion.ids.len() as i64);
        let chosen = rows
            .gather(
                -1,
                &Tensor::from_slice(&completion.ids).unsqueeze(-1),
                false,
            )
            .squeeze_dim(-1);
        assert!(gap(&chosen, &Tensor::from_slice(&completion.logprobs)) < 1e-5);
    }
}

/// Completions that differ, each at one first token.
fn divergences(a: &Completions, b: &Completions) -> usize {
    assert!(a.keys().eq(b.keys()));
    a.iter()
        .filter(|(key, completion)| completion.ids != b[*key].ids)
        .count()
}

#[test]
fn completions_depend_on_neither_slots_nor_neighbours() {
    let model = Rc::new(network("qwen3_tied", Kind::Float));
    let sampling = Sampling {
        max_new_tokens: 200,
        stop_token_ids: vec![3],
        ..Sampling::default()
    };
    let asked = requests(96, 8);
    let whole = sample(&model, &sampling, 0, vec![asked.clone()]);
    let tokens: usize = whole.values().map(|completion| completion.ids.len()).sum();
    let lengths: std::collections::BTreeSet<usize> = whole
        .values()
        .map(|completion| completion.ids.len())
        .collect();
    assert!(
        tokens > 20_000 && lengths.len() > 20,
        "{tokens} tokens, {} lengths",
        lengths.len()
    );
    let few_slots = sample(&model, &sampling, 67, vec![asked.clone()]);
    let apart = asked[..4].chunks(1).chain(asked[4..].chunks(23)).rev();
    let others = sample(
        &model,
        &sampling,
        0,
        apart.map(<[Request]>::to_vec).collect(),
    );
    let counts = [
        divergences(&whole, &few_slots),
        divergences(&whole, &others),
    ];
    // In float64 nothing is rounded that a draw could tell.
    let model = Rc::new(network("qwen3_tied", Kind::Double));
    let some = asked[..48].to_vec();
    let whole = sample(&model, &sampling, 0, vec![some.clone()]);
    let few_slots = sample(&model, &sampling, 67, vec![some.clone()]);
    assert_eq!(divergences(&whole, &few_slots), 0);
    let apart = some[..4].chunks(1).chain(some[4..].chunks(23)).rev();
    let others = sample(
        &model,
        &sampling,
        0,
        apart.map(<[Request]>::to_vec).collect(),
    );
    assert_eq!(divergences(&whole, &others), 0);
    println!("first divergences {counts:?} in {tokens} tokens each");
    // Float32 rounding may move a draw: of at most one token in 100,000.
    assert!(
        counts.iter().sum::<usize>() * 100_000 <= 2 * tokens,
        "{counts:?} in {tokens} tokens each"
    );
}

#[test]
fn a_prompts_page_is_kept_for_the_rest_of_its_group_and_then_used_again() {
    let model = Rc::new(network("qwen3_tied", Kind::Float));
    for max_new_tokens in [1, 2, 9] {
        let sampling = Sampling {
            max_new_tokens,
            stop_token_ids: vec![3, 5, 7],
            ..Sampling::default()
        };
        let asked = requests(10, 4);
        let whole = sample(&model, &sampling, 0, vec![asked.clone()]);
        for slots in [1, 3, 5] {
            let few = sample(&model, &sampling, slots, vec![asked.clone()]);
            assert_eq!(few.len(), 40);
            assert_eq!(divergences(&whole, &few), 0, "{slots} slots");
        }
    }
}

#[test]
fn other_draws_and_seeds_give_other_completions() {
    let model = Rc::new(network("qwen3_tied", Kind::Float));
    let sampling = Sampling {
        max_new_tokens: 20,
        ..Sampling::default()
    };
    let asked = requests(1, 3);
    let done = sample(&model, &sampling, 0, vec![asked.clone()]);
    let ids = |at: (usize, usize)| done[&at].ids.clone();
    assert!(ids((0, 0)) != ids((0, 1)) && ids((0, 1)) != ids((0, 2)));
    let moved = asked
        .into_iter()
        .map(|request| Request { draw: 7, ..request })
        .collect();
    assert_eq!(
        divergences(&done, &sample(&model, &sampling, 0, vec![moved])),
        3
    );
}
