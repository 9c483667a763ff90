//! `trainer::grpo::loss` against formulas written per token in float64 NumPy.

use std::sync::Arc;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use trainer::config::{Aggregation, CorrectionConfig, KlEstimator, OldLogprobs};
use trainer::grpo::correction::completion_weights;
use trainer::grpo::loss::{LossOptions, TokenTerms, grpo_loss};
use trainer::learn::{LossNorm, Trajectory, micro_batches};

use crate::support::{fixture, larger, relative};

#[derive(Deserialize)]
struct Fixture {
    lengths: Vec<usize>,
    advantages: Vec<f64>,
    constant: f64,
    data: Data,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Data {
    logprobs: Vec<f64>,
    entropy: Vec<f64>,
    old: Vec<f64>,
    sampler: Vec<f64>,
    reference: Vec<f64>,
    advantage: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    options: Options,
    loss: f64,
    grad_logprobs: Vec<f64>,
    grad_entropy: Vec<f64>,
    sums: Vec<f64>,
}

#[derive(Deserialize)]
struct Options {
    clip: (Option<f64>, Option<f64>),
    dual_clip: Option<f64>,
    old: bool,
    kl: Option<(f64, KlEstimator)>,
    entropy: f64,
    importance_cap: Option<f64>,
    correction: Option<CorrectionConfig>,
    aggregation: Aggregation,
}

impl Options {
    fn loss(&self) -> LossOptions {
        LossOptions {
            clip: self.clip,
            dual_clip: self.dual_clip,
            entropy: self.entropy,
            kl: self.kl,
            tis_cap: self.importance_cap,
            correction: self.correction.clone(),
        }
    }
}

fn read() -> Fixture {
    let text = std::fs::read_to_string(fixture("parity/losses/losses.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

impl Fixture {
    fn norm(&self, aggregation: Aggregation) -> LossNorm {
        let tokens: usize = self.lengths.iter().sum();
        LossNorm {
            aggregation,
            tokens: tokens as f64,
            sequences: self.lengths.len() as f64,
            constant: self.constant,
        }
    }

    /// Lengths of the completions whose tokens begin at `start`, as many as `weight` has.
    fn cut_lengths(&self, start: i64, weight: &Tensor) -> Vec<usize> {
        let end = start + weight.size()[0];
        let mut at = 0;
        let placed = self.lengths.iter().map(|len| {
            at += *len as i64;
            (at - *len as i64, *len)
        });
        let inside = placed.filter(|(first, _)| (start..end).contains(first));
        inside.map(|(_, len)| len).collect()
    }

    /// Loss, both gradients and the sums of the tokens `[start, start + weight.len())`.
    fn run(
        &self,
        options: &Options,
        start: i64,
        (advantage, weight): (&Tensor, &Tensor),
    ) -> [Tensor; 4] {
        let cut = |values: &[f64]| {
            Tensor::from_slice(values)
                .narrow(0, start, weight.size()[0])
                .copy()
        };
        let logprobs = cut(&self.data.logprobs).set_requires_grad(true);
        let entropy = cut(&self.data.entropy).set_requires_grad(true);
        let (old, reference) = (cut(&self.data.old), cut(&self.data.reference));
        let sampler = cut(&self.data.sampler);
        let correction = options.correction.as_ref();
        let at_sampler = correction.is_some_and(|it| it.anchor == OldLogprobs::Sampler);
        // Of whole completions the weights are known before the loss.
        let of_sequences = correction.filter(|it| it.of_sequences());
        let weights = of_sequences.map(|it| {
            let own = logprobs.detach();
            let before = if options.old && !at_sampler {
                &old
            } else {
                &own
            };
            completion_weights(
                &(before - &sampler),
                advantage,
                &self.cut_lengths(start, weight),
                it,
            )
        });
        let terms = TokenTerms {
            logprobs: &logprobs,
            entropy: &entropy,
            old: match at_sampler {
                true => Some(&sampler),
                false => options.old.then_some(&old),
            },
            sampler: &sampler,
            reference: options.kl.is_some().then_some(&reference),
            advantage,
            weight,
            correction: weights.as_ref(),
        };
        let output = grpo_loss(&terms, &options.loss());
        output.loss.backward();
        let bonus = if entropy.grad().defined() {
            entropy.grad()
        } else {
            entropy.zeros_like()
        };
        [output.loss.detach(), logprobs.grad(), bonus, output.sums]
    }
}

fn wanted(case: &Case) -> [Tensor; 4] {
    [
        Tensor::from(case.loss),
        Tensor::from_slice(&case.grad_logprobs),
        Tensor::from_slice(&case.grad_entropy),
        Tensor::from_slice(&case.sums),
    ]
}

fn worst_of(got: &[Tensor; 4], want: &[Tensor; 4]) -> f64 {
    got.iter()
        .zip(want)
        .map(|(got, want)| relative(&got.view(-1), &want.view(-1)))
        .fold(0.0, larger)
}

#[test]
fn loss_and_gradients_equal_the_formulas_under_every_option() {
    let fixture = read();
    let advantage = Tensor::from_slice(&fixture.data.advantage);
    let mut worst: f64 = 0.0;
    for case in &fixture.cases {
        let norm = fixture.norm(case.options.aggregation);
        let weight: Vec<f64> = fixture
            .lengths
            .iter()
            .flat_map(|&len| vec![norm.weight(len); len])
            .collect();
        let got = fixture.run(&case.options, 0, (&advantage, &Tensor::from_slice(&weight)));
        worst = larger(worst, worst_of(&got, &wanted(case)));
    }
    println!("losses: {} cases, {worst:e}", fixture.cases.len());
    assert!(fixture.cases.len() >= 80 && worst < 1e-12, "{worst:e}");
}

#[test]
fn micro_batches_of_any_size_sum_to_the_same_loss() {
    let fixture = read();
    let trajectories: Vec<Trajectory> = fixture
        .lengths
        .iter()
        .zip(&fixture.advantages)
        .map(|(&len, &advantage)| Trajectory {
            prompt: Arc::from([1, 2, 3]),
            view: None,
            ids: vec![0; len],
            sampler_logprobs: vec![0.0; len],
            advantage,
        })
        .collect();
    let mut worst: f64 = 0.0;
    for budget in [1, 16, 10_000] {
        for case in &fixture.cases {
            let micros = micro_batches(
                &trajectories,
                &fixture.norm(case.options.aggregation),
                budget,
                Device::Cpu,
            );
            let mut start = 0;
            let parts: Vec<[Tensor; 4]> = micros
                .iter()
                .map(|micro| {
                    let part = fixture.run(&case.options, start, (&micro.advantage, &micro.weight));
                    start += micro.tokens();
                    part
                })
                .collect();
            let column =
                |index: usize| -> Vec<&Tensor> { parts.iter().map(|part| &part[index]).collect() };
            let sum = |index: usize| {
                Tensor::stack(&column(index), 0).sum_dim_intlist(0, false, Kind::Double)
            };
            let got = [
                sum(0),
                Tensor::cat(&column(1), 0),
                Tensor::cat(&column(2), 0),
                sum(3),
            ];
            worst = larger(worst, worst_of(&got, &wanted(case)));
        }
    }
    println!("losses in micro-batches: {worst:e}");
    // Their weights and advantages are float32: 24 bits.
    assert!(worst < 3e-7, "{worst:e}");
}

/// Values and gradients that verl's and TRL's formulas give in float64, clipped surrogates of two completions.
#[test]
fn clipped_losses_equal_the_known_values() {
    let old = Tensor::from_slice(&[-0.5, -1.2, -2.0, -0.7, -0.3]);
    let now = [-0.4, -1.5, -1.5, -0.9, -0.25];
    let advantage = Tensor::from_slice(&[1.0, 1.0, 1.0, -0.5, -0.5]);
    let weight = Tensor::from_slice(&[0.2; 5]);
    let zeros = old.zeros_like();
    for (clip, dual_clip, wanted) in [
        ((Some(0.2), Some(0.28)), None, -0.438197642806072),
        ((Some(0.2), Some(0.2)), Some(3.0), -0.422197642806072),
    ] {
        let logprobs = Tensor::from_slice(&now).set_requires_grad(true);
        let terms = TokenTerms {
            logprobs: &logprobs,
            entropy: &zeros,
            old: Some(&old),
            sampler: &old,
            reference: None,
            advantage: &advantage,
            weight: &weight,
            correction: None,
        };
        let options = LossOptions {
            clip,
            dual_clip,
            entropy: 0.0,
            kl: None,
            tis_cap: None,
            correction: None,
        };
        let loss = grpo_loss(&terms, &options).loss;
        assert!((loss.double_value(&[]) - wanted).abs() < 1e-14);
        loss.backward();
        let gradient = Vec::<f64>::try_from(logprobs.grad()).unwrap();
        let wanted = [
            -0.221034183615,
            -0.148163644136,
            0.0,
            0.0818730753078,
            0.105127109638,
        ];
        for (found, wanted) in gradient.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{gradient:?}");
        }
    }
}
