//! `trainer::grpo::loss` against formulas written per token in float64 NumPy.

use std::sync::Arc;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use trainer::config::{Aggregation, KlEstimator};
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
        let terms = TokenTerms {
            logprobs: &logprobs,
            entropy: &entropy,
            old: options.old.then_some(&old),
            sampler: &cut(&self.data.sampler),
            reference: options.kl.is_some().then_some(&reference),
            advantage,
            weight,
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
    assert!(fixture.cases.len() >= 50 && worst < 1e-12, "{worst:e}");
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
