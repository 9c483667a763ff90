//! Networks in float64 and float32 against transformers in float64, tied and untied.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, Recompute, Tape};
use rollout::{FinishReason, Request, Sampling, Submission};
use tch::{Kind, Tensor};

use crate::support::{NETWORKS, expected, gap, ints, larger, network, packed, policy, relative};

pub(super) type Expected = BTreeMap<String, Tensor>;

pub(super) fn sequences(expected: &Expected) -> Vec<Vec<i64>> {
    (0..2)
        .map(|index| ints(&expected[&format!("ids.{index}")]))
        .collect()
}

/// The largest differences of all logits: absolute, and relative to the largest logit.
fn logits_gap(name: &str, kind: Kind) -> (f64, f64) {
    let (model, expected) = (network(name, kind), expected(name));
    let input = packed(&sequences(&expected));
    let logits = tch::no_grad(|| model.logits(&model.hidden(&input)));
    let want = Tensor::cat(&[&expected["logits.0"], &expected["logits.1"]], 0);
    (gap(&logits, &want), relative(&logits, &want))
}

#[test]
fn logits_equal_transformers() {
    for name in NETWORKS {
        let (double, single) = (
            logits_gap(name, Kind::Double).1,
            logits_gap(name, Kind::Float).0,
        );
        println!("{name}: logits float64 {double:e} relative, float32 {single:e} absolute");
        assert!(double < 1e-9, "{name}: {double:e}");
        assert!(single < 1e-4, "{name}: {single:e}");
    }
}

/// The sum of the log-probabilities of each next token; `hidden [T, H]` of both sequences.
pub(super) fn loss(model: &Decoder, hidden: &Tensor, sequences: &[Vec<i64>]) -> Tensor {
    let mut start = 0;
    let parts: Vec<Tensor> = sequences
        .iter()
        .map(|ids| {
            let rows = ids.len() as i64 - 1;
            let targets = Tensor::from_slice(&ids[1..]).unsqueeze(-1);
            let logits = model.logits(&hidden.narrow(0, start, rows));
            start += rows + 1;
            logits
                .log_softmax(-1, None)
                .gather(-1, &targets, false)
                .sum(None)
        })
        .collect();
    Tensor::stack(&parts, 0).sum(None)
}

/// How the gradients are computed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path {
    Autograd,
    Tape(Recompute),
}

/// The loss and the flat gradients `[N]`.
pub(super) fn gradients(
    model: &mut Decoder,
    sequences: &[Vec<i64>],
    path: Path,
) -> (Tensor, Tensor) {
    model.params.train().unwrap();
    let input = packed(sequences);
    let value = match path {
        Path::Autograd => {
            let value = loss(model, &model.hidden(&input), sequences);
            value.backward();
            value
        }
        Path::Tape(recompute) => {
            let tape = Tape::forward(model, &input, recompute);
            let hidden = tape.hidden().detach().set_requires_grad(true);
            let value = loss(model, &hidden, sequences);
            value.backward();
            tape.backward(&hidden.grad());
            value
        }
    };
    (value.detach(), model.params.grad().unwrap().copy())
}

#[test]
fn gradients_equal_transformers() {
    for name in NETWORKS {
        let expected = expected(name);
        for path in [
            Path::Autograd,
            Path::Tape(Recompute::None),
            Path::Tape(Recompute::Blocks),
        ] {
            let mut model = network(name, Kind::Double);
            let (value, _) = gradients(&mut model, &sequences(&expected), path);
            let specs = model.params.specs();
            let known = expected
                .keys()
                .filter(|key| key.starts_with("grad."))
                .count();
            assert_eq!(known, specs.len());
            let of_loss = relative(&value, &expected["loss"]);
            let worst = specs.iter().map(|spec| {
                let got = model.params.grad_view(spec).unwrap();
                relative(&got, &expected[&format!("grad.{}", spec.name)])
            });
            let worst = worst.fold(of_loss, larger);
            println!("{name} {path:?}: loss and gradients {worst:e}");
            assert!(worst < 1e-9, "{name} {path:?}: {worst:e}");
        }
    }
}

#[test]
fn recomputation_changes_no_bit_of_the_gradients() {
    let mut flats = [Recompute::None, Recompute::Blocks]
        .map(|recompute| {
            let mut model = network("qwen3_untied", Kind::Float);
            gradients(
                &mut model,
                &sequences(&expected("qwen3_untied")),
                Path::Tape(recompute),
            )
            .1
        })
        .into_iter();
    assert!(flats.next().is_some_and(|kept| {
        flats
            .next()
            .is_some_and(|anew| kept == anew && kept.norm().double_value(&[]) > 0.0)
    }));
}

#[test]
fn greedy_completions_equal_transformers() {
    for name in NETWORKS {
        let expected = expected(name);
        for kind in [Kind::Double, Kind::Float] {
            let model = Rc::new(network(name, kind));
            let sampling = Sampling {
                temperature: 0.0,
                max_new_tokens: 12,
                ..Sampling::default()
            };
            let mut engine = policy::engine(&model, None, 0);
            let request = |(group, ids): (usize, Vec<i64>)| Request {
                group,
                ids: Arc::from(ids),
                images: None,
                samples: 1,
                draw: group as u64,
                lengths: None,
            };
            engine
                .submit(Submission {
                    requests: sequences(&expected)
                        .into_iter()
                        .enumerate()
                        .map(request)
                        .collect(),
                    sampling,
                    seed: 0,
                })
                .unwrap();
            let mut count = 0;
            while let Some(finished) = engine.next().unwrap() {
                let want = ints(&expected[&format!("greedy.{}", finished.group)]);
                assert_eq!(
                    finished.completion.ids, want,
                    "{name} {kind:?} {}",
                    finished.group
                );
                assert_eq!(finished.completion.finish, FinishReason::Length);
                count += 1;
            }
            assert_eq!(count, 2);
        }
    }
}
