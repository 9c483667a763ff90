//! What `train --dry-run` says before anything runs.

use std::path::Path;

use models::{Leaf, Tokenizer};
use trainer::config::Config;
use trainer::config_check::load_located;

use super::program::{program, scratch, told};
use super::tiny::tiny;

#[test]
fn a_plan_counts_the_parameters_that_learn_as_the_network_has_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = root.join("configs/tiny_vlm.yaml");
    let tokenizer = Tokenizer::read(&root.join("configs/tiny_vlm_tokenizer")).unwrap();
    for freeze in ["[]", "[vision]", "[vision, projector]", "[decoder]"] {
        let set = format!("model.freeze={freeze}");
        let loaded = load_located::<Config>(&config, std::slice::from_ref(&set)).unwrap();
        let place = (tch::Kind::Float, tch::Device::Cpu);
        let model = loaded.config.model.load(0, &tokenizer, place).unwrap();
        let leaves = model.params.leaves().iter();
        let learn: i64 = leaves.filter(|leaf| leaf.trains()).map(Leaf::numel).sum();
        let told = told(
            program()
                .arg("train")
                .arg(&config)
                .args(["--dry-run", "--set", &set]),
        )
        .fine();
        let mut lines = told.out.lines();
        let line = lines.find(|line| line.contains("parameters that learn"));
        let expected = format!("{:.1} M", learn as f64 / 1e6);
        match (line, freeze) {
            (None, "[]") => {}
            (Some(line), _) => assert!(line.ends_with(&expected), "{freeze}: {line}, {expected}"),
            (None, _) => unreachable!("{freeze}: no line in\n{}", told.out),
        }
    }
}

#[test]
fn a_plan_is_of_one_rank_of_those_that_share() {
    let gib = |set: &str, key: &str| {
        let mut command = program();
        command.args(["train"]).arg(&tiny().config);
        command.args([
            "--dry-run",
            "--set",
            "model.init.hidden_size=2048",
            "--set",
            set,
        ]);
        command.args(["--set", "model.init.intermediate_size=8192"]);
        for (name, value) in [
            ("RANK", "0"),
            ("WORLD_SIZE", "4"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "1"),
        ] {
            command.env(name, value);
        }
        let told = told(&mut command).fine();
        let line = told.out.lines().find(|line| line.contains(key));
        let line = line.unwrap_or_else(|| panic!("{key} is not in {}", told.out));
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words
            .iter()
            .position(|word| word.starts_with("GiB"))
            .unwrap();
        words[at - 1].parse::<f64>().unwrap()
    };
    let of = |stage: u8, key: &str| gib(&format!("sharding.stage={stage}"), key);
    for (first, key) in [
        (1, "memory: optimizer"),
        (2, "memory: gradients"),
        (3, "memory: weights"),
    ] {
        let whole = of(0, key);
        assert!(whole > 0.3, "{whole}");
        for stage in 1..=3 {
            let part = if stage >= first { 4.0 } else { 1.0 };
            let held = of(stage, key);
            assert!(
                (held - whole / part).abs() < 0.02,
                "{key} at {stage}: {held}"
            );
        }
    }
}

#[test]
fn a_dry_run_prints_config_and_plan_and_writes_nothing() {
    let folder = scratch("dry_run");
    let run = folder.join("run");
    let done = told(
        program()
            .arg("train")
            .arg(&tiny().config)
            .args(["--dry-run", "--set", "stages.rl.steps=7", "--run-dir"])
            .arg(&run),
    )
    .fine();
    for part in [
        "steps: 7",
        "learning_rate: ",
        "parameters",
        "memory: weights",
        "memory: optimizer",
        "KV cache",
        "7 steps of 4 prompts x 4 completions",
    ] {
        assert!(done.out.contains(part), "{part} is not in:\n{}", done.out);
    }
    assert!(!run.exists());
}

fn planned(args: &[&str]) -> super::program::Told {
    let mut command = program();
    command.arg("plan").arg(&tiny().config).args(args);
    told(&mut command)
}

#[test]
fn a_plan_for_other_hardware_needs_none_of_it() {
    let done = planned(&["--gpus", "8xH200", "--set", "sharding.stage=2"]).fine();
    for part in [
        "8 ranks, each on H200 of 139.80 GiB",
        "stage 2 over 8 ranks",
        "memory: activations",
        "memory: workspace",
        "memory: sum",
        "disk: all checkpoints",
    ] {
        assert!(done.out.contains(part), "{part} is not in:\n{}", done.out);
    }
    for (kind, said) in [
        ("8xQ200", "`Q200` is no kind"),
        ("H200", "NxKIND"),
        ("0xH200", "`0` is no number of devices"),
    ] {
        planned(&["--gpus", kind]).refused(2, &["--gpus", said]);
    }
}

/// A plan's figure in GiB; the line's name is `key`.
fn figure(text: &str, key: &str) -> f64 {
    let line = text.lines().find(|line| line.trim_start().starts_with(key));
    let line = line.unwrap_or_else(|| panic!("{key} is not in {text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| word.starts_with("GiB"))
        .unwrap();
    words[at - 1].parse().unwrap()
}

/// Seven billion weights in bfloat16.
const LARGE: [&str; 4] = [
    "--set",
    "model.init={architecture: qwen3, hidden_size: 4096, intermediate_size: 12288, num_hidden_layers: 36, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128}",
    "--set",
    "dtype=bfloat16",
];

const DEDICATED: [&str; 2] = ["--set", "stages.rl.rollout.placement=dedicated"];

#[test]
fn a_plan_with_samplers_has_the_caches_there_and_gradients_with_the_learners_alone() {
    let large = |more: &[&str]| planned(&[&LARGE[..], more].concat());
    let colocated = large(&["--gpus", "2xH200", "--set", "sharding.stage=3"])
        .fine()
        .out;
    let of = [
        "--gpus",
        "8xH200",
        "--samplers",
        "6",
        "--set",
        "sharding.stage=3",
    ];
    let told = large(&[&of[..], &DEDICATED].concat()).fine().out;
    assert!(
        told.contains("2 ranks and 6 samplers, each on H200 of 139.80 GiB"),
        "{told}"
    );
    // The stages' lines: `sft` samples for its evaluations alone, in the ranks.
    let rl = |text: &str| text[text.find("stage: rl").unwrap()..].to_owned();
    let (colocated, told) = (rl(&colocated), rl(&told));
    for part in ["gradients", "optimizer", "activations"] {
        let key = format!("memory: {part}");
        assert_eq!(figure(&told, &key), figure(&colocated, &key), "{key}");
        assert!(!told.contains(&format!("sampler: {part}")), "{told}");
    }
    assert!(colocated.contains("memory: KV cache"));
    assert!(!told.contains("memory: KV cache"), "{told}");
    assert!(told.contains("memory: gathered to be sent"), "{told}");
    let weights = figure(&told, "sampler: weights");
    assert!(weights > 12.5 && weights < 13.5, "{weights}");
    let parts: f64 = ["weights", "workspace", "KV cache", "logits and prompts"]
        .iter()
        .map(|part| figure(&told, &format!("sampler: {part}")))
        .sum();
    assert!(
        (figure(&told, "sampler: sum") - parts).abs() < 0.03,
        "{told}"
    );
    assert!(told.contains("on each of 6 samplers"), "{told}");
    // Fewer at a time need a smaller cache: 16 completions are asked for in all, of which a sampler may draw 4.
    let few = [
        &of[..],
        &DEDICATED,
        &["--set", "stages.rl.rollout.samplers.in_flight=4"],
    ]
    .concat();
    let few = rl(&large(&few).fine().out);
    assert!(figure(&few, "sampler: KV cache") < figure(&told, "sampler: KV cache"));
    // A sampler that is too small is refused by name, and what is said makes it fit.
    let long = [
        "--gpus",
        "8xgpu-24GiB",
        "--samplers",
        "4",
        "--set",
        "sharding={stage: 3, offload_optimizer: true}",
        "--set",
        "model.init.max_position_embeddings=40000",
        "--set",
        "stages.rl.rollout.max_new_tokens=8000",
        "--set",
        "stages.rl.eval.max_new_tokens=8000",
        "--set",
        "stages.rl.lora={rank: 8}",
        "--set",
        "stages.sft.lora={rank: 8}",
    ];
    let refused = large(&[&long[..], &DEDICATED].concat());
    refused.refused(
        2,
        &["stages.rl: needs ", "on each sampler", "rollout.slots: "],
    );
    planned(&["--gpus", "2xH200", "--samplers", "2"])
        .refused(2, &["--samplers", "at least one learns"]);
    planned(&["--gpus", "2xH200", "--samplers", "1"]).refused(2, &["rollout.placement: dedicated"]);
}

#[test]
fn a_dry_run_with_samplers_beside_it_plans_for_both_once() {
    let mut dry = program();
    dry.args([
        "launch",
        "--learners",
        "1",
        "--samplers",
        "2",
        "--",
        "train",
    ]);
    let dry = told(dry.arg(&tiny().config).arg("--dry-run").args(DEDICATED)).fine();
    assert!(
        dry.out
            .contains("1 rank and 2 samplers, each on this machine"),
        "{}",
        dry.out
    );
    assert_eq!(dry.out.matches("sampler: sum").count(), 1);
}

#[test]
fn a_plan_with_servers_counts_the_folder_of_their_weights_and_no_cache() {
    let servers = |more: &str| {
        let stage = format!(
            "stages.rl.rollout={{engine: vllm, endpoints: [http://a:1], group_size: 4, max_new_tokens: 48{more}}}"
        );
        let set = [
            "--gpus",
            "4xH200",
            "--set",
            "sharding.stage=1",
            "--set",
            &stage,
        ];
        let told = planned(&[&LARGE[..], &set].concat()).fine().out;
        told[told.find("stage: rl").unwrap()..].to_owned()
    };
    let told = servers("");
    assert!(
        !told.contains("KV cache") && !told.contains("sampler: "),
        "{told}"
    );
    let folder = figure(&told, "host: weights for servers");
    assert!(
        (folder - 2.0 * figure(&told, "memory: weights")).abs() < 0.02,
        "{told}"
    );
    assert!(told.contains("GiB in /dev/shm, two versions"), "{told}");
    let told = servers(", servers: {weights: /shared/weights}");
    assert!(told.contains("GiB in /shared/weights"), "{told}");
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let large = [
        "--gpus",
        "2xgpu-24GiB",
        "--set",
        "model.init={architecture: qwen3, hidden_size: 4096, intermediate_size: 12288, num_hidden_layers: 36, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128}",
    ];
    planned(&large).refused(
        2,
        &[
            "stages.rl: needs ",
            "sharding.stage: 3 (",
            "stages.rl.lora: {rank: 16} (",
        ],
    );
    let lora: Vec<&str> = large
        .iter()
        .copied()
        .chain([
            "--set",
            "dtype=bfloat16",
            "--set",
            "stages.rl.lora={rank: 16}",
        ])
        .chain(["--set", "stages.sft.lora={rank: 16}"])
        .collect();
    let lora: Vec<&str> = lora
        .into_iter()
        .map(|word| {
            if word == "2xgpu-24GiB" {
                "1xA100-80"
            } else {
                word
            }
        })
        .collect();
    // Eight billion weights with adapters fit a GPU of 80 GB.
    planned(&lora).fine();
    let long: Vec<&str> = lora
        .into_iter()
        .chain(["--set", "stages.rl.rollout.max_new_tokens=400000"])
        .chain(["--set", "model.init.max_position_embeddings=500000"])
        .collect();
    planned(&long).refused(2, &["stages.rl", "the longest that does has"]);
}

#[test]
fn a_measured_plan_tells_how_long_steps_take() {
    let done = planned(&["--measure"]).fine();
    let lines: Vec<&str> = done
        .out
        .lines()
        .filter(|line| line.contains("time: a step"))
        .collect();
    assert_eq!(lines.len(), 2, "{}", done.out);
    assert!(lines[0].contains("learning ") && !lines[0].contains("drawing "));
    assert!(lines[1].contains("drawing ") && lines[1].contains("min for"));
    planned(&["--measure", "--gpus", "8xH200"]).refused(2, &["--measure"]);
}
