//! `trainer::dpo::loss` against TRL's own DPOTrainer, on given log-probabilities and through a network.

use std::sync::Arc;

use models::{Recompute, read_tensors};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use trainer::config::{Aggregation, DpoLoss};
use trainer::dpo::loss::{
    PairLossOptions, PairNorm, PairTerms, SUMS, dpo_loss, of_pairs, sequence_sums,
};
use trainer::learn::{HeadOptions, LossNorm, Trajectory, micro_batches_of};
use trainer::metrics::keys;

use crate::support::{fixture, larger, network, policy, relative};

#[derive(Deserialize)]
struct Fixture {
    lengths: Vec<[usize; 3]>,
    data: Data,
    cases: Vec<Case>,
    network: Network,
}

#[derive(Deserialize)]
struct Data {
    chosen: Vec<Vec<f64>>,
    rejected: Vec<Vec<f64>>,
    reference_chosen: Vec<f64>,
    reference_rejected: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    options: Options,
    loss: f64,
    /// Of all chosen tokens, then of all rejected ones.
    gradient: Vec<f64>,
    accuracy: f64,
    margin: f64,
    chosen_logp: f64,
    rejected_logp: f64,
}

#[derive(Deserialize)]
struct Options {
    loss: DpoLoss,
    beta: f64,
    label_smoothing: f64,
    sft_weight: f64,
    average_logprobs: bool,
}

#[derive(Deserialize)]
struct Network {
    /// Prompt, chosen, rejected.
    rows: Vec<[Vec<i64>; 3]>,
    /// Chosen, rejected.
    reference: [Vec<f64>; 2],
    beta: f64,
    sft_weight: f64,
}

fn read() -> Fixture {
    let text = std::fs::read_to_string(fixture("parity/dpo/losses.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

impl Options {
    fn loss(&self) -> PairLossOptions {
        PairLossOptions {
            beta: self.beta,
            loss: self.loss,
            label_smoothing: self.label_smoothing,
            average_logprobs: self.average_logprobs,
            sft_weight: self.sft_weight,
        }
    }
}

impl Fixture {
    fn norm(&self) -> PairNorm {
        let chosen: usize = self.lengths.iter().map(|[_, chosen, _]| chosen).sum();
        PairNorm {
            pairs: self.lengths.len() as f64,
            chosen_tokens: chosen as f64,
        }
    }

    /// Loss, gradient by token (all chosen ones first) and sums of the pairs `[from, to)`.
    fn run(&self, options: &PairLossOptions, (from, to): (usize, usize)) -> [Tensor; 3] {
        let pairs = self.data.chosen.iter().zip(&self.data.rejected);
        let pairs: Vec<_> = pairs.skip(from).take(to - from).collect();
        let flat: Vec<f64> = pairs
            .iter()
            .flat_map(|(chosen, rejected)| [chosen.as_slice(), rejected.as_slice()].concat())
            .collect();
        let lengths: Vec<usize> = pairs
            .iter()
            .flat_map(|(chosen, rejected)| [chosen.len(), rejected.len()])
            .collect();
        let leaf = Tensor::from_slice(&flat).set_requires_grad(true);
        let [chosen, rejected] = of_pairs(&sequence_sums(&leaf, &lengths));
        let tokens: Vec<f64> = lengths.iter().map(|len| *len as f64).collect();
        let [chosen_tokens, rejected_tokens] = of_pairs(&Tensor::from_slice(&tokens));
        let output = dpo_loss(
            &PairTerms {
                chosen: &chosen,
                rejected: &rejected,
                reference_chosen: &Tensor::from_slice(&self.data.reference_chosen[from..to]),
                reference_rejected: &Tensor::from_slice(&self.data.reference_rejected[from..to]),
                chosen_tokens: &chosen_tokens,
                rejected_tokens: &rejected_tokens,
            },
            options,
            &self.norm(),
        );
        output.loss.backward();
        let parts = leaf
            .grad()
            .split_with_sizes(lengths.iter().map(|len| *len as i64).collect::<Vec<_>>(), 0);
        let (chosen, rejected): (Vec<_>, Vec<_>) = parts
            .chunks(2)
            .map(|pair| (pair[0].shallow_clone(), pair[1].shallow_clone()))
            .unzip();
        let all: Vec<Tensor> = chosen.into_iter().chain(rejected).collect();
        let gradient = Tensor::cat(&all, 0);
        [output.loss.detach(), gradient, output.sums]
    }
}

#[test]
fn loss_and_gradients_equal_trl_s_under_every_option() {
    let fixture = read();
    let all = (0, fixture.lengths.len());
    let mut worst: f64 = 0.0;
    for case in &fixture.cases {
        let [loss, gradient, sums] = fixture.run(&case.options.loss(), all);
        assert!(case.gradient.iter().any(|value| *value != 0.0));
        worst = larger(worst, relative(&loss, &Tensor::from(case.loss)));
        worst = larger(
            worst,
            relative(&gradient, &Tensor::from_slice(&case.gradient)),
        );
        for (metric, expected) in [
            (&keys::DPO_LOSS, case.loss),
            (&keys::DPO_ACCURACY, case.accuracy),
            (&keys::DPO_MARGIN, case.margin),
            (&keys::DPO_CHOSEN_LOGP, case.chosen_logp),
            (&keys::DPO_REJECTED_LOGP, case.rejected_logp),
        ] {
            let at = SUMS.iter().position(|own| *own == metric).unwrap();
            // TRL's statistics are float32 where they are shares.
            let got = sums.double_value(&[at as i64]);
            assert!(
                (got - expected).abs() <= 1e-7 * expected.abs().max(1.0),
                "{}: {got} and {expected}",
                metric.name
            );
        }
    }
    println!("dpo losses: {} cases, {worst:e}", fixture.cases.len());
    assert!(fixture.cases.len() >= 24 && worst < 1e-9, "{worst:e}");
}

#[test]
fn parts_of_a_batch_sum_to_its_loss() {
    let fixture = read();
    let mut worst: f64 = 0.0;
    for case in &fixture.cases {
        let options = case.options.loss();
        let whole = fixture.run(&options, (0, 5));
        let parts = [(0, 1), (1, 3), (3, 5)].map(|part| fixture.run(&options, part));
        for at in [0, 2] {
            let sum = parts.iter().map(|part| part[at].shallow_clone());
            let sum = sum.reduce(|sum, part| sum + part).unwrap();
            worst = larger(worst, relative(&sum, &whole[at]));
        }
    }
    assert!(worst < 1e-12, "{worst:e}");
}

/// Loss and gradient of the fixture's network in micro-batches of `budget` rows.
fn through_network(fixture: &Fixture, budget: usize, rows: usize) -> (f64, trainer::Learner) {
    let Network {
        rows: pairs,
        reference,
        beta,
        sft_weight,
    } = &fixture.network;
    let mut answers = Vec::new();
    for [prompt, chosen, rejected] in pairs {
        let prompt: Arc<[i64]> = prompt.as_slice().into();
        answers.extend([chosen, rejected].map(|ids| Trajectory {
            prompt: prompt.clone(),
            view: None,
            ids: ids.clone(),
            sampler_logprobs: vec![0.0; ids.len()],
            advantage: 0.0,
        }));
    }
    let mut learner = policy::learner(network("qwen3_untied", Kind::Double), Recompute::None);
    let options = PairLossOptions {
        beta: *beta,
        loss: DpoLoss::Sigmoid,
        label_smoothing: 0.0,
        average_logprobs: false,
        sft_weight: *sft_weight,
    };
    let head = HeadOptions {
        temperature: 1.0,
        rows,
    };
    let unused = LossNorm {
        aggregation: Aggregation::TokenMean,
        tokens: 1.0,
        sequences: 1.0,
        constant: 1.0,
    };
    let (mut loss, mut pair) = (0.0, 0);
    for micro in micro_batches_of(&answers, 2, &unused, (budget, Device::Cpu)) {
        let own = micro.lengths.len() / 2;
        let cut = |values: &[f64]| Tensor::from_slice(&values[pair..pair + own]);
        let (reference_chosen, reference_rejected) = (cut(&reference[0]), cut(&reference[1]));
        pair += own;
        let lengths: Vec<f64> = micro.lengths.iter().map(|len| *len as f64).collect();
        let [chosen_tokens, rejected_tokens] = of_pairs(&Tensor::from_slice(&lengths));
        learner
            .forward_backward_whole(&micro, &head, &mut |logprobs| {
                let [chosen, rejected] = of_pairs(&sequence_sums(logprobs, &micro.lengths));
                let terms = PairTerms {
                    chosen: &chosen,
                    rejected: &rejected,
                    reference_chosen: &reference_chosen,
                    reference_rejected: &reference_rejected,
                    chosen_tokens: &chosen_tokens,
                    rejected_tokens: &rejected_tokens,
                };
                let output = dpo_loss(&terms, &options, &fixture.norm());
                loss += output.loss.double_value(&[]);
                output.loss
            })
            .unwrap();
    }
    assert_eq!(pair, pairs.len());
    (loss, learner)
}

#[test]
fn every_parameter_s_gradient_is_trl_s_in_one_micro_batch_and_in_five() {
    let fixture = read();
    let mut expected =
        read_tensors(&crate::support::fixture("parity/dpo/network.safetensors")).unwrap();
    let wanted = expected.remove("loss").unwrap().double_value(&[0]);
    for (budget, rows) in [(10_000, 0), (1, 0), (20, 3)] {
        let (loss, learner) = through_network(&fixture, budget, rows);
        let mut worst = (loss - wanted).abs() / wanted;
        let params = &learner.model.params;
        let (mut seen, mut largest) = (0, 0.0);
        for spec in params.specs() {
            let own = params.grad_view(spec).unwrap();
            let theirs = &expected[&spec.name];
            largest = larger(largest, theirs.abs().max().double_value(&[]));
            worst = larger(worst, relative(&own, theirs));
            seen += 1;
        }
        assert_eq!(seen, expected.len());
        assert!(largest > 0.0);
        println!("dpo through a network, {budget} rows: {worst:e}");
        assert!(worst < 1e-9, "{budget}: {worst:e}");
    }
}
