//! The test binary as the ranks of a small learner: each learns its share of eight completions, and leaves what it
//! has in a file.

use std::cell::Cell;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use models::{AdapterMode, Decoder, Recompute, VisionFeatures, write_tensors};
use tch::{Device, Kind, Tensor};
use torch_ext::{Backend, GroupOptions, ProcessGroup, Store};
use trainer::config::{Aggregation, OptimizerConfig, ShardingConfig};
use trainer::learn::{HeadOptions, LossNorm, MicroBatch, micro_batches};
use trainer::{Learner, LearnerOptions, Ranks};

use crate::invariants::learning::{terms_loss, trajectories};
use crate::invariants::lora::adapted;
use crate::support::network;

/// What the ranks do.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// One of the networks of tests/parity/networks, or [`ADAPTED`].
    pub network: &'static str,
    pub kind: Kind,
    pub recompute: Recompute,
    pub stage: u8,
    pub size: usize,
}

impl Case {
    fn name(&self) -> String {
        format!(
            "{}_{:?}_{:?}_stage{}_of{}",
            self.network, self.kind, self.recompute, self.stage, self.size
        )
    }
}

/// A network whose adapters learn, with dropout.
pub const ADAPTED: &str = "adapted";

/// The network called `name`.
pub fn learner_of(name: &str, kind: Kind) -> Decoder {
    match name {
        ADAPTED => adapted(0.2, kind),
        name => network(name, kind),
    }
}

const PORT: &str = "SVGRL_TEST_PORT";
const RANK: &str = "SVGRL_TEST_RANK";
const CASE: &str = "SVGRL_TEST_CASE";
const OUT: &str = "SVGRL_TEST_OUT";

/// Runs `case`, one process a rank; the file that each rank left.
pub fn run(case: Case) -> Vec<PathBuf> {
    let folder = crate::cli::program::scratch(&format!("sharded_{}", case.name()));
    let store = Store::tcp("127.0.0.1", 0, true, Duration::from_secs(60)).unwrap();
    let out = |rank: usize| folder.join(format!("{rank}.safetensors"));
    let ranks: Vec<Child> = (0..case.size)
        .map(|rank| {
            let words = [
                case.network.to_owned(),
                format!("{:?}", case.kind),
                format!("{:?}", case.recompute),
                case.stage.to_string(),
                case.size.to_string(),
            ];
            let mut command = Command::new(env::current_exe().unwrap());
            command.args([
                "--exact",
                "ranks::sharded::process::body",
                "--ignored",
                "--nocapture",
            ]);
            command
                .env(RANK, rank.to_string())
                .env(CASE, words.join(" "));
            command.env(PORT, store.port().unwrap().to_string());
            command.env(OUT, out(rank)).env("OMP_NUM_THREADS", "1");
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for child in ranks {
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let fine = output.status.success() && text.contains("1 passed");
        assert!(fine, "{case:?}: {text}");
    }
    (0..case.size).map(out).collect()
}

#[test]
#[ignore = "run as a rank by the tests of ranks::sharded::learning"]
fn body() {
    let value = |name: &str| env::var(name).unwrap();
    let words = value(CASE);
    let words: Vec<&str> = words.split(' ').collect();
    let kind = match words[1] {
        "Float" => Kind::Float,
        "BFloat16" => Kind::BFloat16,
        other => panic!("{other}"),
    };
    let recompute = match words[2] {
        "None" => Recompute::None,
        _ => Recompute::Blocks,
    };
    let (stage, size) = (words[3].parse().unwrap(), words[4].parse().unwrap());
    let port = value(PORT).parse().unwrap();
    let store = Store::tcp("127.0.0.1", port, false, Duration::from_secs(60)).unwrap();
    let options = GroupOptions {
        rank: value(RANK).parse().unwrap(),
        size,
        timeout: Duration::from_secs(60),
        backend: Backend::Gloo,
        heartbeat: Duration::from_millis(200),
        address: None,
    };
    let group = ProcessGroup::connect(&store, "sharded", options).unwrap();
    let ranks = Rc::new(Ranks::new(group, Device::Cpu));
    let model = learner_of(words[0], kind);
    learn(model, &ranks, (stage, recompute), Path::new(&value(OUT)));
    ranks.barrier().unwrap();
}

/// Which rank has each of the eight completions: so many more for rank 0 that the others idle, and with four ranks
/// one has none.
const OWNERS: [usize; 8] = [0, 0, 1, 0, 0, 1, 2, 0];

/// This rank's share, packed into micro-batches.
pub fn own_micros(ranks: &Ranks) -> Vec<MicroBatch> {
    let all = trajectories(true);
    let tokens: usize = all.iter().map(|one| one.ids.len()).sum();
    let norm = LossNorm {
        aggregation: Aggregation::SequenceMean,
        tokens: tokens as f64,
        sequences: all.len() as f64,
        constant: 1.0,
    };
    let owned = all.into_iter().zip(OWNERS);
    let own = owned.filter(|(_, owner)| owner % ranks.size() == ranks.rank());
    let own: Vec<_> = own.map(|(trajectory, _)| trajectory).collect();
    micro_batches(&own, &norm, 12, Device::Cpu)
}

/// Rows of logits at a time, and a temperature.
pub const HEAD: HeadOptions = HeadOptions {
    temperature: 0.7,
    rows: 3,
};

/// One accumulation over this rank's micro-batches; the loss over all ranks.
fn accumulate(learner: &mut Learner, micros: &[MicroBatch], ranks: &Ranks) -> f64 {
    let loss = Cell::new(0.0);
    for pass in 0..learner.passes(micros.len()).unwrap() {
        assert!(!learner.stops(false).unwrap());
        let Some(micro) = micros.get(pass) else {
            learner.idle().unwrap();
            continue;
        };
        learner
            .forward_backward(micro, &HEAD, &mut |start, logprobs, entropy| {
                let part = terms_loss(micro, start, logprobs, entropy);
                loss.set(loss.get() + part.double_value(&[]));
                part
            })
            .unwrap();
    }
    ranks.sum([loss.get()]).unwrap()[0]
}

/// Loss and gradients of the first accumulation, the weights after three updates, log-probabilities under them, and
/// the bytes held, as tensors in `out`.
pub fn learn(model: Decoder, ranks: &Rc<Ranks>, (stage, recompute): (u8, Recompute), out: &Path) {
    let optimizer = OptimizerConfig {
        epsilon: 1e-3,
        weight_decay: 0.1,
        ..OptimizerConfig::default()
    };
    let sharding = ShardingConfig {
        stage,
        ..ShardingConfig::default()
    };
    let options = LearnerOptions {
        optimizer: &optimizer,
        recompute,
        ranks: ranks.clone(),
        sharding: &sharding,
    };
    let mut learner = Learner::new(model, options).unwrap();
    let micros = own_micros(ranks);
    let loss = accumulate(&mut learner, &micros, ranks);
    let (gradient, norm) = learner.sum_gradients().unwrap();
    let gradient = gradient.copy();
    let memory = learner.memory();
    learner.zero_grad().unwrap();
    let mut norms = vec![norm];
    for _ in 0..3 {
        accumulate(&mut learner, &micros, ranks);
        let update = learner.optimizer_step(1e-2, Some(0.05)).unwrap();
        assert!(
            update.applied && update.grad_norm > 0.05,
            "{} is clipped",
            update.grad_norm
        );
        norms.push(update.grad_norm);
    }
    let mut logprobs = Vec::new();
    for pass in 0..learner.passes(micros.len()).unwrap() {
        match micros.get(pass) {
            None => Learner::idle_log_probs(&learner.model).unwrap(),
            Some(micro) => {
                let look = (VisionFeatures::Cached, AdapterMode::On);
                let own = Learner::log_probs(&learner.model, micro, &HEAD, look.0, look.1).unwrap();
                logprobs.push(
                    own.to_kind(Kind::Double)
                        .sum(Kind::Double)
                        .double_value(&[]),
                );
            }
        }
    }
    let logprobs = ranks.sum([logprobs.iter().sum()]).unwrap();
    let whole = learner.whole().unwrap();
    let params = &learner.model.params;
    let weights = params.trainable_part(0..params.trainable_len());
    drop(whole);
    let named = |name: &str, tensor: Tensor| (name.to_owned(), tensor);
    let bytes = [
        memory.weights,
        memory.gradients,
        memory.optimizer,
        memory.moving,
    ];
    let tensors = [
        named("loss", Tensor::from_slice(&[loss])),
        named("norms", Tensor::from_slice(&norms)),
        named("gradient", gradient),
        named("weights", weights.to_kind(Kind::Float)),
        named("logprobs", Tensor::from_slice(&logprobs)),
        named("bytes", Tensor::from_slice(&bytes)),
    ];
    write_tensors(out, &tensors).unwrap();
}
