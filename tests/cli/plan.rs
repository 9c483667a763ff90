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
