//! Stages with LoRA adapters: checkpoints in PEFT's layout, exact resume, the stage after them, and what
//! other commands make of their folders.

use std::path::{Path, PathBuf};

use models::{AdapterMode, Decoder, load_folder, read_tensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::program::{Told, copy, numbers, program, rows, scratch, told, write, write_rows};
use super::tiny::{self, tiny};
use crate::preferences;
use crate::support::{fixture, gap, larger, packed};

/// SFT and GRPO with adapters, both with what must survive an interruption: dropout, KL to the base, several updates.
const STAGES: &str = "\
stages:
  - name: sft
    algorithm: sft
    steps: 4
    batch: {size: 4, recompute: blocks}
    lora: {rank: 4, alpha: 8, dropout: 0.2}
    optimizer: {learning_rate: 1.0e-3}
    checkpoint: {every: 2}
  - name: rl
    algorithm: grpo
    steps: 4
    batch: {size: 3}
    lora: {rank: 3, alpha: 6, targets: [q_proj, v_proj, down_proj], dropout: 0.1, rslora: true}
    rollout: {group_size: 4, max_new_tokens: 16, temperature: 3.0, stop: ['>']}
    kl: {coefficient: 0.05}
    loss: {updates: 2}
    optimizer: {learning_rate: 5.0e-3}
    eval: {prompts: 2}
    checkpoint: {every: 2}
  - name: full
    algorithm: sft
    steps: 1
    batch: {size: 4}
    optimizer: {learning_rate: 1.0e-3}
    checkpoint: {every: 0}
";

/// The config of a run in `folder` that starts from the policy in `model`.
fn config(folder: &Path, model: &Path, stages: &str) -> PathBuf {
    let path = tiny::config(folder);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("model:\n").unwrap();
    let (_, rest) = rest.split_once("data:\n").unwrap();
    let (rest, _) = rest.split_once("stages:\n").unwrap();
    // Some completions end at a bracket, the others are cut off: there are advantages whatever they draw.
    let rest = rest.replace("    rubric:\n", "    rubric:\n      truncated: -1.0\n");
    assert!(rest.contains("truncated"));
    let text = format!("{before}model: {{path: {model:?}}}\ndata:\n{rest}{stages}");
    write(folder, "lora.yaml", &text)
}

fn train(config: &Path, run: &Path, flags: &[&str]) -> Told {
    let mut command = program();
    command.args(["train", "-q"]).arg(config);
    told(command.arg("--run-dir").arg(run).args(flags))
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const TENSORS: [&str; 3] = [
    "sft/final/adapter_model.safetensors",
    "rl/final/adapter_model.safetensors",
    "full/final/model.safetensors",
];

#[test]
fn a_run_with_adapters_leaves_its_base_alone_and_resumes_bitwise() {
    let folder = scratch("lora_run");
    let model = folder.join("model");
    copy(&tiny().model(), &model);
    let weights = bytes(&model.join("model.safetensors"));
    let config = config(&folder, &model, STAGES);
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    train(&config, &whole, &[]).fine();
    // Two steps of each stage at a time.
    let stop = folder.join("stop.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (first, _) = text.split_once("  - name: rl").unwrap();
    std::fs::write(&stop, first.replace("steps: 4", "steps: 2")).unwrap();
    train(&stop, &parts, &[]).fine();
    let (two, _) = text.split_once("  - name: full").unwrap();
    let shorter = two.replace(
        "steps: 4\n    batch: {size: 3}",
        "steps: 2\n    batch: {size: 3}",
    );
    assert_ne!(shorter, two);
    std::fs::write(&stop, shorter).unwrap();
    train(&stop, &parts, &[]).fine();
    train(&config, &parts, &[]).fine();
    for name in TENSORS {
        let [a, b] = [&whole, &parts].map(|run| bytes(&run.join("checkpoints").join(name)));
        assert!(a == b, "{name}");
    }
    for stage in ["sft", "rl"] {
        let name = format!("checkpoints/{stage}/final/trainer/optimizer.safetensors");
        assert!(
            bytes(&whole.join(&name)) == bytes(&parts.join(&name)),
            "{name}"
        );
    }
    let steps = |run: &Path| -> Vec<_> {
        let all = preferences::told_rows(run).into_iter();
        all.filter(|row| row["stage"] == "rl" && row.contains_key("policy/loss"))
            .collect()
    };
    assert_eq!(steps(&whole).len(), 4);
    assert_eq!(steps(&whole), steps(&parts));
    assert!(
        bytes(&model.join("model.safetensors")) == weights,
        "the base is as it was"
    );
    let moved = rows(&whole.join("metrics.jsonl"));
    let kl = moved
        .iter()
        .filter_map(|row| row.get("policy/kl_ref")?.as_f64());
    let kl: Vec<f64> = kl.collect();
    // Two updates a step: the second one of the first step has left the base.
    assert!(kl.len() == 4 && kl[3] > kl[0] && kl[3] > 1e-4, "{kl:?}");
}

#[test]
fn a_checkpoint_is_peft_s_and_a_stage_begins_with_the_last_one_merged() {
    let folder = scratch("lora_stages");
    let config = config(&folder, &tiny().model(), STAGES);
    let run = folder.join("run");
    train(
        &config,
        &run,
        &[
            "--set",
            "stages.rl.steps=1",
            "--set",
            "stages.full.optimizer.learning_rate=1e-9",
        ],
    )
    .fine();
    let sft = run.join("checkpoints/sft/final");
    for name in [
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "tokenizer.json",
        "trainer/state.json",
    ] {
        assert!(sft.join(name).exists(), "{name}");
    }
    assert!(!sft.join("model.safetensors").exists());
    let described: Value =
        serde_json::from_slice(&bytes(&sft.join("adapter_config.json"))).unwrap();
    let base = described["base_model_name_or_path"].as_str().unwrap();
    assert_eq!(Path::new(base), tiny().model().canonicalize().unwrap());
    assert_eq!(
        (
            &described["r"],
            &described["lora_alpha"],
            &described["lora_dropout"],
            &described["peft_type"]
        ),
        (&json!(4), &json!(8), &json!(0.2), &json!("LORA"))
    );
    let tensors = read_tensors(&sft.join("adapter_model.safetensors")).unwrap();
    let first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    assert_eq!(tensors[first].size(), [4, 32]);
    assert_eq!(tensors.len(), 2 * 7 * 2);
    // The second stage stands on the first one merged, which the run keeps.
    let rl = run.join("checkpoints/rl/final");
    let described: Value = serde_json::from_slice(&bytes(&rl.join("adapter_config.json"))).unwrap();
    let base = PathBuf::from(described["base_model_name_or_path"].as_str().unwrap());
    assert!(base.ends_with("lora_base/rl"), "{base:?}");
    assert_eq!(
        (&described["use_rslora"], &described["target_modules"]),
        (&json!(true), &json!(["down_proj", "q_proj", "v_proj"]))
    );
    let open = |folder: &Path| load_folder(folder, Kind::Float, Device::Cpu).unwrap();
    let ids: Vec<i64> = (0..40).map(|at| at * 11 % 260).collect();
    let of = |model: &Decoder, mode: AdapterMode| {
        let input = packed(std::slice::from_ref(&ids)).with_adapters(mode);
        tch::no_grad(|| model.logits(&model.hidden(&input)))
    };
    let close = |a: &Tensor, b: &Tensor| {
        let worst = gap(a, b);
        assert!(worst < 1e-4, "{worst:e}");
    };
    let (sft, rl) = (open(&sft), open(&rl));
    close(
        &of(&open(&base), AdapterMode::On),
        &of(&sft, AdapterMode::On),
    );
    close(&of(&rl, AdapterMode::Off), &of(&sft, AdapterMode::On));
    assert!(gap(&of(&rl, AdapterMode::On), &of(&rl, AdapterMode::Off)) > 1e-3);
    // The third one learns all weights, from the second one merged; its rate is next to nothing.
    let full = open(&run.join("checkpoints/full/final"));
    assert!(full.adapters().is_none());
    close(&of(&full, AdapterMode::On), &of(&rl, AdapterMode::On));
    // A run folder may move.
    let moved = folder.join("moved");
    std::fs::rename(&run, &moved).unwrap();
    let again = open(&moved.join("checkpoints/rl/final"));
    assert!(again.params.trainable() == rl.params.trainable());
    assert!(
        again
            .adapters()
            .unwrap()
            .base
            .starts_with(moved.canonicalize().unwrap())
    );
}

/// A finished run of one stage with adapters, without dropout.
fn finished(name: &str) -> (PathBuf, PathBuf) {
    let folder = scratch(name);
    let (stages, _) = STAGES.split_once("  - name: rl").unwrap();
    let stages = stages
        .replace(", dropout: 0.2", "")
        .replace("steps: 4", "steps: 2");
    let config = config(&folder, &tiny().model(), &stages);
    let run = folder.join("run");
    train(&config, &run, &[]).fine();
    (folder, run.join("checkpoints/sft/final"))
}

fn asked(folder: &Path, model: &Path, out: &str) -> Vec<Value> {
    let prompts = write_rows(
        folder,
        "prompts.jsonl",
        &[json!({"id": 0, "prompt": "a red circle"})],
    );
    let out = folder.join(out);
    let mut command = program();
    command
        .args([
            "generate",
            "-q",
            "--n",
            "3",
            "--max-new-tokens",
            "24",
            "--model",
        ])
        .arg(model);
    told(command.arg("--prompts").arg(prompts).arg("--out").arg(&out)).fine();
    rows(&out)
}

#[test]
fn commands_take_an_adapter_s_folder_with_its_base() {
    let (folder, adapter) = finished("lora_commands");
    let drawn = asked(&folder, &adapter, "out.jsonl");
    let data: Vec<Value> = drawn
        .iter()
        .map(|row| json!({"id": row["index"], "prompt": "a red circle", "completion_token_ids": row["token_ids"]}))
        .collect();
    let data = write_rows(&folder, "data.jsonl", &data);
    let scored = |model: &Path| -> Vec<f64> {
        let out = folder.join("scored.jsonl");
        let mut command = program();
        command.args(["logprobs", "-q", "--model"]).arg(model);
        told(command.arg("--data").arg(&data).arg("--out").arg(&out)).fine();
        rows(&out)
            .iter()
            .flat_map(|row| numbers(&row["logprobs"]))
            .collect()
    };
    let sampled: Vec<f64> = drawn
        .iter()
        .flat_map(|row| numbers(&row["logprobs"]))
        .collect();
    let apart = |others: &[f64]| {
        sampled
            .iter()
            .zip(others)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, larger)
    };
    let own = apart(&scored(&adapter));
    assert!(own < 1e-5, "{own:e}");
    let base = apart(&scored(&tiny().model()));
    assert!(base > 1e-3, "{base:e}");
    // As PEFT's users have it: the adapter alone, its tokenizer the base's.
    let bare = folder.join("bare");
    std::fs::create_dir(&bare).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(adapter.join(name), bare.join(name)).unwrap();
    }
    assert_eq!(asked(&folder, &bare, "bare.jsonl"), drawn);
    // Merged: plain, the same numbers up to rounding.
    let merged = folder.join("merged");
    let merge = |from: &Path, to: &Path, flags: &[&str]| {
        let mut command = program();
        command
            .args(["merge", "--model"])
            .arg(from)
            .arg("--out")
            .arg(to);
        told(command.args(["--device", "cpu"]).args(flags))
    };
    merge(&bare, &merged, &[]).fine();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(merged.join(name).exists(), "{name}");
    }
    assert!(!merged.join("adapter_config.json").exists() && !merged.join("trainer").exists());
    let plain = apart(&scored(&merged));
    assert!(plain < 1e-4, "{plain:e}");
    merge(&bare, &merged, &[]).refused(2, &["is there already"]);
    merge(&merged, &folder.join("twice"), &[]).refused(2, &["no LoRA checkpoint"]);
    let narrow = folder.join("narrow");
    merge(&adapter, &narrow, &["--dtype", "bfloat16"]).fine();
    let stored = read_tensors(&narrow.join("model.safetensors")).unwrap();
    assert!(
        stored
            .values()
            .all(|tensor| tensor.kind() == Kind::BFloat16)
    );
    let wide = read_tensors(&merged.join("model.safetensors")).unwrap();
    assert!(
        stored
            .iter()
            .all(|(name, tensor)| *tensor == wide[name].to_kind(Kind::BFloat16)),
        "rounded once"
    );
    // A run that starts from it starts from the merged weights.
    let config = config(
        &folder,
        &bare,
        "stages: [{algorithm: sft, steps: 1, batch: {size: 4}, optimizer: {learning_rate: 1.0e-9}, lora: {}}]",
    );
    let run = folder.join("from_adapter");
    train(&config, &run, &[]).fine();
    let end = apart(&scored(&run.join("checkpoints/sft/final")));
    assert!(end < 1e-4, "{end:e}");
}

#[test]
fn what_is_wrong_with_an_adapter_or_its_section_is_said() {
    let (folder, adapter) = finished("lora_refused");
    let generate = |model: &Path| {
        let prompts = write_rows(&folder, "p.jsonl", &[json!({"id": 0, "prompt": "a"})]);
        let mut command = program();
        command.args(["generate", "-q", "--model"]).arg(model);
        told(
            command
                .arg("--prompts")
                .arg(prompts)
                .arg("--out")
                .arg(folder.join("o.jsonl")),
        )
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let bad = folder.join("bad");
        copy(&adapter, &bad);
        let path = bad.join("adapter_config.json");
        let mut described: Value = serde_json::from_slice(&bytes(&path)).unwrap();
        change(&mut described);
        std::fs::write(&path, described.to_string()).unwrap();
        bad
    };
    generate(&changed(&|one| {
        one["base_model_name_or_path"] = json!("/gone/base")
    }))
    .refused(2, &["/gone/base is not there", "adapter_config.json"]);
    generate(&changed(&|one| one["use_dora"] = json!(true)))
        .refused(2, &["use_dora", "DoRA is not built"]);
    generate(&changed(&|one| one["r"] = json!(7))).refused(2, &["lora_A", "shape"]);
    let checked = |set: &[&str]| {
        let mut command = program();
        command
            .arg("check")
            .arg(config(&folder, &tiny().model(), STAGES));
        for value in set {
            command.args(["--set", value]);
        }
        told(&mut command)
    };
    checked(&[]).fine();
    checked(&["stages.sft.lora.dora=true"]).refused(2, &["lora.dora", "not built"]);
    checked(&["stages.sft.lora.rank=0"]).refused(2, &["lora.rank: must be >= 1"]);
    checked(&["stages.sft.lora.dropout=1"]).refused(2, &["lora.dropout"]);
    checked(&["stages.sft.lora.targets=[q_prok]"]).refused(2, &["stages.sft", "q_prok", "q_proj"]);
    checked(&["stages.sft.lora.vision=true"]).refused(2, &["vision", "reads text only"]);
    checked(&["stages.sft.lora.rnk=3"]).refused(2, &["rnk", "did you mean `rank`"]);
    let seeing = fixture("../configs/tiny_vlm.yaml");
    let seeing = |set: &[&str]| {
        let mut command = program();
        command.arg("check").arg(&seeing);
        for value in set {
            command.args(["--set", value]);
        }
        told(&mut command)
    };
    seeing(&["model.freeze=[decoder]", "stages.0.lora={rank: 2}"])
        .refused(2, &["lora", "model.freeze"]);
    seeing(&["model.freeze=[vision]", "stages.0.lora={vision: true}"])
        .refused(2, &["lora.vision", "model.freeze"]);
    seeing(&["model.freeze=[vision]", "stages.0.lora={rank: 2}"]).fine();
}

#[test]
fn a_plan_counts_adapters_and_needs_no_second_network_for_kl() {
    let folder = scratch("lora_plan");
    let config = config(&folder, &tiny().model(), STAGES);
    let mut command = program();
    let told = told(command.arg("train").arg(config).arg("--dry-run")).fine();
    let lines: Vec<&str> = told
        .out
        .lines()
        .filter(|line| line.contains("adapters"))
        .collect();
    assert_eq!(lines.len(), 3, "{}", told.out);
    assert!(
        lines.iter().any(|line| line.contains("rank 4")),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("none: the policy without its adapters")),
        "{lines:?}"
    );
}

#[test]
fn a_fresh_network_and_pairs_have_adapters_too() {
    let folder = scratch("lora_fresh");
    write_rows(&folder, "pairs.jsonl", &preferences::pairs());
    let stage = "  - {name: dpo, algorithm: dpo, steps: 4, batch: {size: 2}, lora: {rank: 2, dropout: 0.1}, optimizer: {learning_rate: 1.0e-2}, checkpoint: {every: 2}}\n";
    let source = "pairs: {format: dpo, path: pairs.jsonl}";
    let config = preferences::config(&folder, source, stage);
    let [whole, parts] = ["whole", "parts"].map(|name| folder.join(name));
    train(&config, &whole, &[]).fine();
    let loss: Vec<f64> = rows(&whole.join("metrics.jsonl"))
        .iter()
        .filter_map(|row| row.get("dpo/loss")?.as_f64())
        .collect();
    // The reference is the policy's own base, from which fresh adapters have not moved it.
    assert!(
        loss.len() == 4 && (loss[0] - 2f64.ln()).abs() < 1e-6 && loss[3] < loss[0],
        "{loss:?}"
    );
    train(&config, &parts, &["--set", "stages.dpo.steps=2"]).fine();
    train(&config, &parts, &[]).fine();
    // At each step anew, with the adapters switched off, it says what it said before they moved.
    let anew = folder.join("anew");
    train(&config, &anew, &["--set", "stages.dpo.reference=policy"]).fine();
    let again = preferences::curve(&anew, "dpo", "dpo/loss");
    let worst = loss
        .iter()
        .zip(&again)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, larger);
    assert!(again.len() == 4 && worst < 1e-6, "{again:?} {loss:?}");
    let name = "checkpoints/dpo/final/adapter_model.safetensors";
    assert!(bytes(&whole.join(name)) == bytes(&parts.join(name)));
    let base = read_tensors(&whole.join("lora_base/dpo/model.safetensors")).unwrap();
    assert!(base.contains_key("model.embed_tokens.weight"));
    assert!(whole.join("lora_base/dpo/tokenizer.json").exists());
}

#[test]
fn two_ranks_with_dropout_are_one() {
    let folder = scratch("lora_ranks");
    write_rows(&folder, "pairs.jsonl", &preferences::pairs());
    let stage = "  - {name: sft, algorithm: sft, steps: 3, batch: {size: 4}, lora: {rank: 2, dropout: 0.3}, optimizer: {learning_rate: 1.0e-2, epsilon: 1.0e-3}}\n";
    let source = "pairs: {format: dpo, path: pairs.jsonl}";
    let config = preferences::config(&folder, source, stage);
    let [one, two] = ["one", "two"].map(|name| folder.join(name));
    told(&mut preferences::train(&config, &one)).fine();
    told(&mut preferences::two(&config, &two)).fine();
    let [a, b] = [&one, &two].map(|run| {
        let path = run.join("checkpoints/sft/final/adapter_model.safetensors");
        read_tensors(&path).unwrap()
    });
    let worst = a
        .iter()
        .map(|(name, tensor)| gap(tensor, &b[name]))
        .fold(0.0, larger);
    assert!(worst < 1e-6, "{worst:e}");
    let moved = a.iter().filter(|(name, _)| name.contains("lora_B"));
    assert!(
        moved
            .into_iter()
            .all(|(_, tensor)| tensor.abs().max().double_value(&[]) > 1e-5)
    );
}
