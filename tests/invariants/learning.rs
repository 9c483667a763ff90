//! One loss over the same eight completions, computed in different pieces.

use std::sync::Arc;

use models::{AdapterMode, Recompute, VisionFeatures};
use tch::{Device, Kind, Tensor};
use trainer::Learner;
use trainer::config::Aggregation;
use trainer::grpo::loss::{LossOptions, TokenTerms, grpo_loss};
use trainer::learn::{HeadOptions, LossNorm, MicroBatch, Trajectory, micro_batches};

use crate::support::{larger, network, policy, relative};

/// How the loss is computed.
#[derive(Debug, Clone, Copy)]
struct Pieces {
    /// Whether siblings share their prompt's rows.
    shared: bool,
    /// Rows of a micro-batch.
    budget: usize,
    /// Rows of logits at a time; 0 is all.
    logit_rows: usize,
    recompute: Recompute,
}

const WHOLE: Pieces = Pieces {
    shared: true,
    budget: 10_000,
    logit_rows: 0,
    recompute: Recompute::None,
};

/// What must be the same.
struct Outcome {
    micros: usize,
    logprobs: Tensor,
    loss: Tensor,
    gradient: Tensor,
}

/// Three prompts with 3, 2 and 3 completions of 1 to 9 tokens.
pub fn trajectories(shared: bool) -> Vec<Trajectory> {
    let token = |n: usize| (n * 37 + 11) as i64 % 64;
    let families = [(5, [4, 1, 9].as_slice()), (1, &[6, 2]), (11, &[1, 1, 7])];
    let mut out = Vec::new();
    for (family, (prompt, lengths)) in families.into_iter().enumerate() {
        let ids: Arc<[i64]> = (0..prompt).map(|n| token(n + 100 * family)).collect();
        for (index, &len) in lengths.iter().enumerate() {
            let seed = 1000 * family + 50 * index;
            out.push(Trajectory {
                prompt: if shared {
                    ids.clone()
                } else {
                    Arc::from(ids.to_vec())
                },
                view: None,
                ids: (0..len).map(|n| token(n * n + seed)).collect(),
                sampler_logprobs: vec![-4.5; len],
                advantage: [0.8, -0.5, 0.3][index],
            });
        }
    }
    out
}

const LOSS: LossOptions = LossOptions {
    clip: (Some(0.2), Some(0.3)),
    dual_clip: Some(3.0),
    entropy: 0.05,
    kl: None,
    tis_cap: None,
    correction: None,
};

/// The loss of the tokens from `start` of a micro-batch.
pub fn terms_loss(micro: &MicroBatch, start: i64, logprobs: &Tensor, entropy: &Tensor) -> Tensor {
    let cut = |tensor: &Tensor| tensor.narrow(0, start, logprobs.size()[0]);
    let sampler = cut(&micro.sampler);
    let terms = TokenTerms {
        logprobs,
        entropy,
        old: Some(&sampler),
        sampler: &sampler,
        reference: None,
        advantage: &cut(&micro.advantage),
        weight: &cut(&micro.weight),
        correction: None,
    };
    grpo_loss(&terms, &LOSS).loss
}

fn learner(kind: Kind, recompute: Recompute) -> Learner {
    policy::learner(network("qwen3_untied", kind), recompute)
}

fn micros(pieces: Pieces) -> Vec<MicroBatch> {
    let all = trajectories(pieces.shared);
    let tokens: usize = all.iter().map(|trajectory| trajectory.ids.len()).sum();
    let norm = LossNorm {
        aggregation: Aggregation::SequenceMean,
        tokens: tokens as f64,
        sequences: all.len() as f64,
        constant: 1.0,
    };
    micro_batches(&all, &norm, pieces.budget, Device::Cpu)
}

fn outcome(kind: Kind, pieces: Pieces) -> Outcome {
    let mut learner = learner(kind, pieces.recompute);
    let head = HeadOptions {
        temperature: 0.7,
        rows: pieces.logit_rows,
    };
    let micros = micros(pieces);
    let mut losses = Vec::new();
    for micro in &micros {
        learner
            .forward_backward(micro, &head, &mut |start, logprobs, entropy| {
                let loss = terms_loss(micro, start, logprobs, entropy);
                losses.push(loss.detach());
                loss
            })
            .unwrap();
    }
    let logprobs: Vec<Tensor> = micros
        .iter()
        .map(|micro| {
            let (look, on) = (VisionFeatures::Cached, AdapterMode::On);
            Learner::log_probs(&learner.model, micro, &head, look, on).unwrap()
        })
        .collect();
    Outcome {
        micros: micros.len(),
        logprobs: Tensor::cat(&logprobs, 0),
        loss: Tensor::stack(&losses, 0).sum(None),
        gradient: learner.model.params.grad().unwrap().copy(),
    }
}

/// The largest relative difference of log-probabilities, loss and gradient between two ways.
fn difference(a: &Outcome, b: &Outcome) -> f64 {
    assert!(b.gradient.norm().double_value(&[]) > 0.0);
    let parts = [
        relative(&a.logprobs, &b.logprobs),
        relative(&a.loss, &b.loss),
        relative(&a.gradient, &b.gradient),
    ];
    parts.into_iter().fold(0.0, larger)
}

fn same(what: &str, pieces: Pieces, count: usize) {
    for (kind, bound) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
        let parts = outcome(kind, pieces);
        assert_eq!(parts.micros, count);
        let worst = difference(&parts, &outcome(kind, WHOLE));
        println!("{what}: {kind:?} {worst:e}");
        assert!(worst < bound, "{what}: {kind:?} {worst:e}");
    }
}

#[test]
fn packed_with_shared_prompts_is_each_sequence_alone() {
    same(
        "each alone",
        Pieces {
            shared: false,
            budget: 1,
            ..WHOLE
        },
        8,
    );
    same(
        "packed, nothing shared",
        Pieces {
            shared: false,
            ..WHOLE
        },
        1,
    );
}

#[test]
fn one_micro_batch_is_eight() {
    same("eight micro-batches", Pieces { budget: 1, ..WHOLE }, 8);
    same(
        "micro-batches that split families",
        Pieces {
            budget: 12,
            ..WHOLE
        },
        5,
    );
}

#[test]
fn logits_three_rows_at_a_time_are_logits_at_once() {
    same(
        "three rows of logits",
        Pieces {
            logit_rows: 3,
            ..WHOLE
        },
        1,
    );
}

#[test]
fn recomputing_blocks_changes_nothing() {
    same(
        "blocks recomputed",
        Pieces {
            recompute: Recompute::Blocks,
            ..WHOLE
        },
        1,
    );
}

#[test]
fn the_heads_own_backward_is_that_of_autograd() {
    let learner = learner(Kind::Double, Recompute::None);
    for micro in &micros(WHOLE) {
        let hidden = learner
            .model
            .hidden(&micro.input)
            .index_select(0, &micro.rows);
        let all = (learner.model.logits(&hidden) / 0.7).log_softmax(-1, None);
        let entropy = (all.exp() * &all).sum_dim_intlist(-1, false, None).neg();
        let chosen = all
            .gather(-1, &micro.targets.unsqueeze(-1), false)
            .squeeze_dim(-1);
        terms_loss(micro, 0, &chosen, &entropy).backward();
    }
    let worst = relative(
        &outcome(Kind::Double, WHOLE).gradient,
        learner.model.params.grad().unwrap(),
    );
    println!("head against autograd: {worst:e}");
    assert!(worst < 1e-12, "{worst:e}");
}
