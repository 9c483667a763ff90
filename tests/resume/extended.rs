//! `model.extend_tokens`: SVG tokens that a run adds to its policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::{Decoder, Tokenizer};

use crate::cli::program::{Told, copy, program, rows, scratch, svgrl, told, write};
use crate::cli::tiny;
use crate::support;

/// A config over the tiny one with the fixture's model folder in place of a fresh network.
fn config(name: &str) -> PathBuf {
    let folder = scratch(name);
    tiny::config(&folder);
    copy(
        &support::fixture("parity/svg_tokens/base"),
        &folder.join("policy"),
    );
    let text = std::fs::read_to_string(folder.join("tiny.yaml")).unwrap();
    let at = text.find("model:").unwrap();
    let end = text.find("data:").unwrap();
    let model = "model: {path: policy, extend_tokens: ctrl-s}\n";
    let text = format!("{}{model}{}", &text[..at], &text[end..])
        .replace("steps: 60", "steps: 2")
        .replace(
            "steps: 2\n    batch: {size: 4}",
            "steps: 1\n    batch: {size: 4}",
        )
        .replace("checkpoint: {every: 0}", "checkpoint: {every: 1}");
    write(&folder, "tiny.yaml", &text)
}

fn train(config: &Path, flags: &[&str]) -> Told {
    let run = config.with_file_name("run");
    let mut train = program();
    train.arg("train").arg(config).arg("--run-dir").arg(&run);
    told(train.args(flags))
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn a_run_extends_its_policy_once_as_the_command_does() {
    let config = config("extended_run");
    let at = |name: &str| config.with_file_name(name);
    svgrl("check", &[&config]).fine();
    let said = train(&config, &[]).fine().err;
    assert!(
        said.contains("model.extend_tokens: ") && said.contains("tokens added"),
        "{said}"
    );
    let (model, out) = (at("policy"), at("by_command"));
    let mut extend = program();
    extend.arg("extend-tokens").arg("--model").arg(&model);
    told(extend.arg("--out").arg(&out)).fine();
    let made = at("run/model_extended");
    assert!(
        contents(&made) == contents(&out),
        "the command writes another folder"
    );
    assert!(made.join("extend_report.json").is_file());
    // Every checkpoint holds the extended vocabulary.
    let tokens = Tokenizer::read(&made).unwrap().len();
    assert!(tokens > Tokenizer::read(&model).unwrap().len());
    for checkpoint in ["sft/final", "rl/final"] {
        let folder = at("run/checkpoints").join(checkpoint);
        assert_eq!(Tokenizer::read(&folder).unwrap().len(), tokens);
        let place = (tch::Kind::Float, tch::Device::Cpu);
        let policy: Decoder = models::load_folder(&folder, place.0, place.1).unwrap();
        assert_eq!(policy.config.vocab_size, tokens as i64);
    }
    let before = std::fs::metadata(made.join("model.safetensors")).unwrap();
    // What is there is used: neither said nor written again, though the policy it was made from stays elsewhere.
    let more = train(&config, &["--set", "stages.rl.steps=2"]).fine().err;
    assert!(!more.contains("tokens added"), "{more}");
    let after = std::fs::metadata(made.join("model.safetensors")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    let steps = rows(&at("run/metrics.jsonl"));
    let steps = steps
        .iter()
        .filter(|row| row["stage"] == "rl" && row.get("optim/lr").is_some());
    assert_eq!(steps.count(), 2);
    let other = [
        "--set",
        "model.extend_tokens=internsvg",
        "--set",
        "stages.rl.steps=3",
    ];
    train(&config, &other).refused(2, &["model.extend_tokens: "]);
    // Lost, it is made anew.
    std::fs::remove_dir_all(&made).unwrap();
    train(&config, &["--set", "stages.rl.steps=3"]).fine();
    assert!(contents(&made) == contents(&out));
}

#[test]
fn a_folder_that_has_the_tokens_is_used_as_it_is() {
    let config = config("extended_already");
    let at = |name: &str| config.with_file_name(name);
    let mut extend = program();
    extend.arg("extend-tokens").arg("--model").arg(at("policy"));
    told(extend.arg("--out").arg(at("extended"))).fine();
    let set = [
        "--set",
        "model.path=extended",
        "--set",
        "stages.sft.steps=1",
    ];
    let said = train(&config, &set).fine().err;
    let times = said.matches("has all of these tokens already").count();
    assert_eq!(times, 1, "{said}");
    assert!(!at("run/model_extended").exists());
}

#[test]
fn what_cannot_be_extended_is_refused_by_its_key() {
    let config = config("extended_refused");
    let dry = |set: &str| train(&config, &["--dry-run", "--set", set]);
    let fresh = "model={tokenizer: policy, extend_tokens: ctrl-s, init: {hidden_size: 8, num_attention_heads: 1, num_key_value_heads: 1}}";
    dry(fresh).refused(2, &["model.extend_tokens: ", "`init`"]);
    dry("model.tokenizer=policy").refused(2, &["model.extend_tokens: ", "leave `tokenizer` out"]);
    dry("model.extend_tokens=ctrls").refused(2, &["model.extend_tokens", "`ctrl-s`"]);
}
