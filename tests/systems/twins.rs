//! Each system in small, from an empty folder to the end of its last stage: what its example writes is read by its own
//! config, every stage learns, and reinforcement has something to learn from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::making::Maker;

use crate::cli::program::{program, rows, scratch, told};
use crate::support::python::{NO_PYTHON, answer, python};
use crate::support::skip::skip;

/// An example of `system`, trained with `more` arguments; its folder and the run's.
pub fn trained(system: &str, more: &[String]) -> (PathBuf, PathBuf) {
    let folder = scratch(&format!("twin_{system}"));
    let example = folder.join("example");
    let mut command = program();
    command
        .args(["data", "example", system, "--out"])
        .arg(&example);
    told(&mut command).fine();
    changes_sizes_paths_and_endpoints_alone(&example.join("config.yaml"));
    loads_in_transformers(&example);
    let run = folder.join("run");
    let mut command = program();
    command.arg("train").arg(example.join("config.yaml"));
    told(command.arg("--run-dir").arg(&run).args(more)).fine();
    (example, run)
}

/// The scores of a twin on its benchmark, from the run's last checkpoint.
fn judged(suite: &str, (example, run): (&Path, &Path), more: &[String]) -> Value {
    let out = example.join("scores");
    let mut command = program();
    command.args(["eval", suite, "--config"]);
    command
        .arg(example.join("suite.yaml"))
        .arg("--run")
        .arg(run);
    told(command.arg("--out").arg(&out).args(more)).fine();
    let text = std::fs::read_to_string(out.join("scores.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A judge for a benchmark.
fn with_judge() -> [String; 2] {
    let judge = crate::support::chat_server::chat_server(|asked| {
        let words = asked["messages"][0]["content"][0]["text"].to_string();
        match words.contains("score: NUMBER") {
            true => serde_json::json!("score: 5"),
            false => serde_json::json!("SCORE: 50"),
        }
    });
    let key = format!("judge={{endpoint: \"{judge}\", model: m}}");
    ["--set".to_owned(), key]
}

/// A metric of every step of a stage that has it.
fn metric(all: &[Value], stage: &str, name: &str) -> Vec<f64> {
    let of_stage = all.iter().filter(|row| row["stage"] == stage);
    of_stage.filter_map(|row| row[name].as_f64()).collect()
}

fn mean(values: &[f64]) -> f64 {
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
}

/// The weights' bytes.
fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model.safetensors")).unwrap()
}

/// What a stage of reinforcement must have had: spread in over half of its groups, valid completions, new weights.
fn reinforced(run: &Path, stage: &str, before: &Path) {
    let all = rows(&run.join("metrics.jsonl"));
    let flat = mean(&metric(&all, stage, "reward/zero_spread_frac"));
    assert!(flat < 0.5, "{stage}: {flat} of the groups have no spread");
    let valid = mean(&metric(&all, stage, "svg/valid_frac"));
    assert!(valid > 0.0, "{stage}: nothing was drawn");
    let after = run.join("checkpoints").join(stage).join("final");
    assert!(
        weights(before) != weights(&after),
        "{stage}: no weight has changed"
    );
}

/// That a stage's loss has fallen to less than `share` of what it began with.
fn fitted(run: &Path, stage: &str, share: f64) {
    let loss = metric(&rows(&run.join("metrics.jsonl")), stage, "sft/loss");
    let (first, last) = (loss[0], mean(&loss[loss.len().saturating_sub(5)..]));
    assert!(last < share * first, "{stage}: {first} to {last}");
}

/// That transformers misses nothing and knows everything in the folders that are of its kind.
fn loads_in_transformers(example: &Path) {
    let python = match python() {
        Some(python) => python,
        None => skip!("{NO_PYTHON}"),
    };
    let mut folders = Vec::new();
    for kind in ["models", "encoders"] {
        let entries = std::fs::read_dir(example.join(kind)).into_iter().flatten();
        folders.extend(entries.map(|entry| entry.unwrap().path()));
    }
    folders.retain(|folder| folder.join("config.json").is_file());
    assert!(!folders.is_empty());
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    assert_eq!(answer(&python, "systems/load.py", &folders), "");
}

/// What a twin may say: it names its base, and sizes, paths and endpoints.
const SIZES: [&str; 14] = [
    "path",
    "held_out",
    "steps",
    "epochs",
    "max_tokens",
    "batch.size",
    "learning_rate",
    "group_size",
    "max_prompt_tokens",
    "max_new_tokens",
    "every",
    "prompts",
    "candidates",
    "endpoint",
];

fn changes_sizes_paths_and_endpoints_alone(config: &Path) {
    let text = std::fs::read_to_string(config).unwrap();
    let twin: Value = serde_saphyr::from_str(&text).unwrap();
    let mut changed = BTreeMap::new();
    leaves(&twin, "", &mut changed);
    for key in changed
        .keys()
        .filter(|key| *key != ".base" && !key.ends_with(".name"))
    {
        let allowed = SIZES.iter().any(|size| key.ends_with(&format!(".{size}")));
        assert!(allowed, "{}: {key}", config.display());
    }
}

/// The keys by which a twin differs from its base, as `a.b`.
fn leaves(value: &Value, path: &str, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &format!("{path}.{key}"), out);
            }
        }
        Value::Array(all) if all.iter().all(|each| each["name"].is_string()) && !all.is_empty() => {
            for each in all {
                let name = each["name"].as_str().unwrap_or_default();
                leaves(each, &format!("{path}.{name}"), out);
            }
        }
        other => drop(out.insert(path.to_owned(), other.clone())),
    }
}

#[test]
fn ctrl_s_goes_through_its_three_stages() {
    let (example, run) = trained("ctrl-s", &[]);
    fitted(&run, "sft_sagoge", 0.5);
    fitted(&run, "sft_sophia", 0.5);
    reinforced(&run, "rl", &run.join("checkpoints/sft_sophia/final"));
    let scores = judged("sophia-refine", (&example, &run), &[]);
    assert_eq!(scores["tasks"]["refinement"]["items"], 6);
    for metric in ["success_rate", "dino", "ssim", "lpips"] {
        assert!(scores[metric].is_number(), "{metric}: {scores}");
    }
}

#[test]
fn vectorgym_learns_four_tasks_at_once() {
    let (example, run) = trained("vectorgym", &[]);
    reinforced(&run, "rl", &example.join("models/tiny-qwen3-vl"));
    let all = rows(&run.join("metrics.jsonl"));
    for task in ["sketch", "edit", "text", "caption"] {
        let name = format!("reward/{task}/total/mean");
        assert!(!metric(&all, "rl", &name).is_empty(), "{task}");
    }
    let scores = judged("vectorgym", (&example, &run), &with_judge());
    for score in ["sketch", "edit", "text", "caption", "overall"] {
        assert!(scores[score].is_number(), "{score}: {scores}");
    }
}

#[test]
fn sgp_gen_learns_from_a_base_model() {
    let (example, run) = trained("sgp-gen", &[]);
    reinforced(&run, "rl", &example.join("models/tiny-qwen2.5"));
    let scores = judged("sgp-genbench", (&example, &run), &with_judge());
    for score in ["composition", "diversity", "siglip_small", "dino_small"] {
        assert!(scores[score].is_number(), "{score}: {scores}");
    }
    assert!(scores["success_rate"].as_f64().unwrap() > 0.0, "{scores}");
}

#[test]
fn introsvg_makes_its_own_pairs_and_learns_from_them() {
    let endpoint = super::judge::judge();
    // Nobody asks for the key of a judge on this machine.
    let more = [
        "--set".to_owned(),
        format!("stages.dpo.pairs.judge.endpoint={endpoint}"),
        "--set".to_owned(),
        "stages.dpo.pairs.judge.api_key_env=PATH".to_owned(),
    ];
    let (example, run) = trained("introsvg", &more);
    fitted(&run, "sft", 0.5);
    let all = rows(&run.join("metrics.jsonl"));
    let loss = metric(&all, "dpo", "dpo/loss");
    assert!((loss[0] - std::f64::consts::LN_2).abs() < 1e-3, "{loss:?}");
    let margin = metric(&all, "dpo", "dpo/margin");
    assert!(margin.last() > margin.first(), "{margin:?}");
    let pairs = rows(&run.join("pairs/dpo.jsonl"));
    assert_eq!(pairs.len(), 12);
    let chosen = pairs
        .iter()
        .filter(|pair| !pair["chosen"].is_null())
        .count();
    assert!(chosen >= 4, "{chosen} pairs");
    let before = run.join("checkpoints/sft/final");
    let model = run.join("checkpoints/dpo/final");
    assert!(weights(&before) != weights(&model));
    let maker = Maker {
        model: &model,
        example: &example,
        endpoint: &endpoint,
        out: scratch("twin_introsvg_made"),
    };
    maker.refines();
    maker.makes_drafts();
    maker.makes_critiques_and_corrections();
}

#[test]
fn internsvg_goes_through_both_stages() {
    let (example, run) = trained("internsvg", &[]);
    fitted(&run, "stage1", 0.6);
    fitted(&run, "stage2", 0.9);
    let scores = judged("sarena-icon", (&example, &run), &[]);
    assert!(scores["final"].is_number(), "{scores}");
    assert!(scores["tasks"]["understanding"]["metrics"]["accuracy"]["value"].is_number());
}
