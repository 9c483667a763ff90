//! Decoding and learning on a GPU: what they compute, and how many operators, copies to the host and copies within
//! the cache that takes. The pretended GPU counts these; launches it cannot count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, KV_PAGE, LmInput, Recompute, Tape, kv_pages, load_folder, save_folder};
use rollout::engine::{self, EngineConfig, EngineOptions, EngineStats, ServersOptions};
use rollout::{Completion, Request, Sampling, Submission};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::gpu::Gpu;
use crate::cli::program::{scratch, told, write, write_rows};
use crate::support::relative;
use crate::support::skip::skip;

/// Operators of a layer and token at commit 6399ead, counted the same way
/// (benches/runs/2026-11-30-xeon-2core/decode_operators.md).
const BEFORE: u64 = 43;
const HEADS: i64 = 4;
const KV_HEADS: i64 = 2;
const DIM: i64 = 8;
const LONGEST: usize = 60;
/// Tokens of the bounded cache.
const ROOM: usize = 256;

/// A folder with a random Qwen3 of so many layers that says more than noise.
fn policy(layers: usize) -> PathBuf {
    let folder = scratch(&format!("devices_policy_{layers}"));
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 96, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": DIM, "rms_norm_eps": 1e-6, "rope_theta": 500.0,
        "max_position_embeddings": 256, "tie_word_embeddings": false, "hidden_act": "silu", "attention_bias": false
    });
    write(&folder, "config.json", &config.to_string());
    models::write_fresh_policy(&folder, 5).unwrap();
    let model = load_folder(&folder, Kind::Float, Device::Cpu).unwrap();
    tch::no_grad(|| {
        let _turn = torch_ext::seeded(6);
        let weights = model.params.trainable();
        let _ = weights
            .shallow_clone()
            .g_add_(&(Tensor::randn_like(weights) * 0.15));
    });
    save_folder(&model, Kind::Float, &folder).unwrap();
    folder
}

/// What a pretended GPU counted, by name.
fn counted(path: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(path).unwrap();
    let pair = |line: &str| {
        let (name, number) = line.split_once(' ').unwrap();
        (name.to_owned(), number.parse().unwrap())
    };
    text.lines().map(pair).collect()
}

/// What `svgrl generate` of 8 completions of `tokens` tokens counts on a pretended GPU.
fn generated(gpu: &Gpu, layers: usize, tokens: usize) -> BTreeMap<String, u64> {
    let model = policy(layers);
    let folder = scratch(&format!("devices_generated_{layers}_{tokens}"));
    let rows: Vec<_> = (0..8)
        .map(|id| json!({"id": id, "token_ids": (0..5 + id).collect::<Vec<_>>()}))
        .collect();
    let prompts = write_rows(&folder, "prompts.jsonl", &rows);
    let counts = folder.join("counts");
    let rows = 8 * (kv_pages(12) + kv_pages(tokens as i64)) + 1;
    let layer = 2 * KV_HEADS * rows * KV_PAGE * DIM * 4;
    let mut command = gpu.program();
    command.env("PRETEND_GPU_COUNTS", &counts);
    command.env("PRETEND_GPU_WATCH", layer.to_string());
    command.args(["generate", "-q", "--device", "cuda", "--model"]);
    command.arg(model).arg("--prompts").arg(prompts);
    command.arg("--out").arg(folder.join("out.jsonl"));
    command.args(["--max-new-tokens", &tokens.to_string()]);
    told(&mut command).fine();
    counted(&counts)
}

#[test]
fn a_token_takes_half_the_operators_one_copy_to_the_host_and_none_of_the_cache() {
    let gpu = gpu!();
    let Gpu::Pretended(_) = gpu else {
        skip!("only a pretended GPU counts operators");
    };
    // All that a run does besides is the same for both lengths.
    let step = |layers, name: &str| {
        let (short, long) = (generated(gpu, layers, 16), generated(gpu, layers, 32));
        let number = |counts: &BTreeMap<String, u64>| counts.get(name).copied().unwrap_or(0);
        assert_eq!((number(&long) - number(&short)) % 16, 0, "{name}");
        (number(&long) - number(&short)) / 16
    };
    let layer = |name: &str| step(3, name) - step(2, name);
    assert_eq!(layer("aten::_flash_attention_forward"), 1);
    let operators = layer("operators");
    println!("{operators} operators a layer and token, {BEFORE} before");
    assert!(2 * operators <= BEFORE, "{operators}");
    assert_eq!((step(2, "to_host"), step(2, "to_device")), (1, 0));
    assert_eq!(step(2, "moved"), 0);
}

/// Runs the test `name` of this file in a process that sees the GPU; what was counted there.
fn within(gpu: &Gpu, name: &str, watch: i64) -> Option<BTreeMap<String, u64>> {
    let counts = scratch(&format!("devices_{name}")).join("counts");
    let mut command = Command::new(std::env::current_exe().unwrap());
    gpu.given_to(&mut command);
    command.env("SVGRL_WITHIN_GPU", name);
    command.env("PRETEND_GPU_COUNTS", &counts);
    command.env("PRETEND_GPU_WATCH", watch.to_string());
    command.args(["--exact", "devices::decoding::in_a_process_with_a_gpu"]);
    let out = command.output().unwrap();
    let said = [out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(out.status.success(), "{}", said.join("\n"));
    matches!(gpu, Gpu::Pretended(_)).then(|| counted(&counts))
}

#[test]
fn what_is_sampled_is_what_the_cpu_samples_whatever_the_room() {
    within(gpu!(), "sampled", 0);
}

#[test]
fn ranges_that_grow_copy_two_bytes_at_most_for_each_that_is_written() {
    let rows = (ROOM as i64 / KV_PAGE + 1) * KV_PAGE;
    let layer = 2 * KV_HEADS * rows * DIM * 4;
    let Some(counts) = within(gpu!(), "grown", layer) else {
        return;
    };
    assert!(counts["moved"] > 0);
}

#[test]
fn half_precision_samples_what_the_learner_says() {
    within(gpu!(), "half", 0);
}

#[test]
fn learning_takes_one_call_of_attention_a_layer_and_its_gradients_are_the_cpu_s() {
    let Some(counts) = within(gpu!(), "learnt", 0) else {
        return;
    };
    // Forward and backward of three layers, once with segments that share one and once without; a try besides.
    let calls = |name: &str| counts[&format!("aten::_flash_attention_{name}")];
    assert_eq!((calls("forward"), calls("backward")), (2 * 3 + 1, 2 * 3));
}

/// The others' second half: what [`within`] names, where a GPU is seen.
#[test]
fn in_a_process_with_a_gpu() {
    let Ok(name) = std::env::var("SVGRL_WITHIN_GPU") else {
        return;
    };
    tch::set_num_threads(1);
    match name.as_str() {
        "sampled" => sampled(),
        "grown" => grown(),
        "half" => half(),
        "learnt" => learnt(),
        name => panic!("{name}"),
    }
}

type Drawn = BTreeMap<(usize, usize), Completion>;

fn sample(
    model: &Rc<Decoder>,
    sampling: &Sampling,
    (slots, cache_tokens): (usize, usize),
) -> (Drawn, EngineStats) {
    let options = EngineOptions {
        policy: model.clone(),
        images: None,
        tokenizer: None,
        slots,
        cache_tokens,
        servers: ServersOptions::default(),
    };
    let mut engine = engine::open(EngineConfig::Local, options).unwrap();
    let ids = |group: usize| -> Arc<[i64]> {
        let len = 1 + group * 17 % 40;
        (0..len)
            .map(|n| ((n * 13 + group * 29) % 96) as i64)
            .collect()
    };
    let request = |group| Request {
        group,
        ids: ids(group),
        images: None,
        samples: 3,
        draw: 300 + group as u64,
        lengths: None,
    };
    let submission = Submission {
        requests: (0..7).map(request).collect(),
        sampling: sampling.clone(),
        seed: 11,
    };
    engine.submit(submission).unwrap();
    let mut drawn = Drawn::new();
    while let Some(finished) = engine.next().unwrap() {
        drawn.insert((finished.group, finished.index), finished.completion);
    }
    (drawn, engine.stats())
}

fn stopping() -> Sampling {
    Sampling {
        max_new_tokens: LONGEST,
        stop_token_ids: vec![3, 8, 17, 30, 41, 55, 70, 88],
        ..Sampling::default()
    }
}

fn here(device: Device, kind: Kind) -> Rc<Decoder> {
    Rc::new(load_folder(&policy(3), kind, device).unwrap())
}

fn tolerance() -> f64 {
    Gpu::seen().tolerance()
}

fn sampled() {
    let models = [Device::Cpu, Device::Cuda(0)].map(|device| here(device, Kind::Float));
    let filtered = Sampling {
        temperature: 0.8,
        top_k: 20,
        top_p: 0.9,
        min_p: 0.01,
        ..stopping()
    };
    let greedy = Sampling {
        temperature: 0.0,
        ..stopping()
    };
    for sampling in [stopping(), filtered, greedy] {
        let (cpu, _) = sample(&models[0], &sampling, (0, 0));
        let lengths: BTreeSet<usize> = cpu
            .values()
            .map(|completion| completion.ids.len())
            .collect();
        assert!(lengths.len() > 3, "{lengths:?}");
        for room in [(0, 0), (5, 0), (0, ROOM), (6, 2 * ROOM)] {
            let (gpu, _) = sample(&models[1], &sampling, room);
            assert_eq!(gpu.len(), cpu.len());
            for (place, cpu) in &cpu {
                let gpu = &gpu[place];
                assert_eq!((&gpu.ids, gpu.finish), (&cpu.ids, cpu.finish), "{room:?}");
                let pairs = [
                    (&gpu.logprobs, &cpu.logprobs),
                    (&gpu.drawn_logprobs, &cpu.drawn_logprobs),
                ];
                for (gpu, cpu) in pairs.iter().flat_map(|(a, b)| a.iter().zip(b.iter())) {
                    assert!(f64::from((gpu - cpu).abs()) < tolerance(), "{gpu} {cpu}");
                }
            }
        }
    }
}

fn grown() {
    let model = here(Device::Cuda(0), Kind::Float);
    let long = Sampling {
        max_new_tokens: 4 * LONGEST / 2,
        ..Sampling::default()
    };
    let (_, stats) = sample(&model, &long, (0, ROOM));
    assert!(stats.put_back > 0 && stats.moved_rows > 0, "{stats:?}");
    assert!(stats.moved_rows <= 2 * stats.tokens, "{stats:?}");
}

fn half() {
    let model = here(Device::Cuda(0), Kind::BFloat16);
    let (drawn, _) = sample(&model, &stopping(), (0, 0));
    for ((group, _), completion) in &drawn {
        let prompt: Vec<i64> = (0..1 + group * 17 % 40)
            .map(|n| ((n * 13 + group * 29) % 96) as i64)
            .collect();
        let whole = [prompt.as_slice(), &completion.ids].concat();
        let mut input = LmInput::builder();
        input.push(&whole, None);
        let logprobs = tch::no_grad(|| {
            let hidden = model.hidden(&input.build(model.device()));
            let logits = model.logits(&hidden).to_kind(Kind::Float);
            logits.log_softmax(-1, Kind::Float).to_device(Device::Cpu)
        });
        for (at, (id, sampled)) in completion.ids.iter().zip(&completion.logprobs).enumerate() {
            let row = (prompt.len() + at - 1) as i64;
            let said = logprobs.double_value(&[row, *id]);
            // Eight bits of fraction, through three layers.
            assert!((said - f64::from(*sampled)).abs() < 0.1, "{said} {sampled}");
        }
    }
}

fn learnt() {
    let packings: [&[(usize, Option<usize>)]; 2] = [
        &[(9, None), (5, None), (14, None)],
        &[
            (6, None),
            (5, Some(0)),
            (9, Some(0)),
            (3, None),
            (4, Some(3)),
        ],
    ];
    let gradients = |device| -> Vec<Tensor> {
        let mut model = load_folder(&policy(3), Kind::Float, device).unwrap();
        model.params.train().unwrap();
        packings
            .iter()
            .map(|packing| {
                let mut input = LmInput::builder();
                for (segment, (len, prefix)) in packing.iter().enumerate() {
                    let ids: Vec<i64> = (0..*len)
                        .map(|at| ((at * 7 + segment * 31) % 96) as i64)
                        .collect();
                    input.push(&ids, *prefix);
                }
                let input = input.build(device);
                let tape = Tape::forward(&model, &input, Recompute::default());
                let hidden = tape.hidden().detach().set_requires_grad(true);
                let logits = model.logits(&hidden).log_softmax(-1, Kind::Float);
                (logits.select(1, 5) * 0.7).sum(Kind::Float).backward();
                tape.backward(&hidden.grad());
                model.params.grad().unwrap().to_device(Device::Cpu).copy()
            })
            .collect()
    };
    let (cpu, gpu) = (gradients(Device::Cpu), gradients(Device::Cuda(0)));
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        let far = relative(gpu, cpu);
        assert!(far < tolerance(), "{far:e}");
    }
}
