//! The same completions, losses and gradients from two ranks as from one, and back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::{samples, step_rows, two};
use crate::cli::judges::judge;
use crate::cli::program::{copy, program, rows, scratch, told};
use crate::cli::tiny::{config, tiny};

/// A copy of the tiny run as it was before its first GRPO step.
fn before_rl(name: &str) -> std::path::PathBuf {
    let run = tiny().copy(name);
    std::fs::remove_dir_all(run.join("checkpoints/rl")).unwrap();
    run
}

/// `key` of every sample, in the order of the file.
fn sampled(run: &Path, key: &str) -> Vec<Value> {
    rows(&samples(run, 1))
        .into_iter()
        .map(|row| row[key].clone())
        .collect()
}

fn number(row: &Value, key: &str) -> f64 {
    row[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} is not in {row}"))
}

#[test]
fn two_ranks_sample_and_learn_what_one_does() {
    let run = before_rl("ranks_same");
    let done = told(&mut two(&tiny().config, &run)).fine();
    assert!(
        done.err.contains("not bitwise"),
        "the other world size is not told: {}",
        done.err
    );
    for key in ["prompt_id", "index", "token_ids", "total", "advantage"] {
        assert_eq!(sampled(&run, key), sampled(&tiny().run, key), "{key}");
    }
    let (ours, theirs) = (step_rows(&run, "rl"), step_rows(&tiny().run, "rl"));
    assert_eq!(ours.len(), 2, "each row is written once");
    assert_eq!(step_rows(&run, "sft").len(), 60);
    for key in [
        "policy/loss",
        "policy/entropy",
        "optim/grad_norm",
        "reward/total/mean",
        "reward/total/std",
    ] {
        let (ours, theirs) = (number(&ours[0], key), number(&theirs[0], key));
        // A loss near zero is a difference of terms of about 1: relative to them.
        let scale = if key == "policy/loss" {
            1.0
        } else {
            theirs.abs()
        };
        assert!(
            (ours - theirs).abs() <= 1e-5 * scale,
            "{key}: {ours} and {theirs}"
        );
    }
    assert!(
        number(&theirs[0], "optim/grad_norm") > 0.0,
        "no reward differs, nothing is compared"
    );
    let environment = std::fs::read_to_string(run.join("environment.json")).unwrap();
    assert!(environment.contains("\"world_size\": 2"));
    let log = std::fs::read_to_string(run.join("train.log")).unwrap();
    assert_eq!(
        log.matches("rl 2/2").count(),
        2,
        "once from the copied run, once from rank 0:\n{log}"
    );
}

#[test]
fn a_checkpoint_of_two_ranks_resumes_on_one() {
    let folder = scratch("ranks_resume");
    let (config, run) = (config(&folder), folder.join("run"));
    let short = ["--set", "stages.sft.steps=20", "--set", "stages.rl.steps=1"];
    told(two(&config, &run).args(short)).fine();
    let first = std::fs::read(samples(&run, 1)).unwrap();
    let more = ["--set", "stages.sft.steps=20", "--set", "stages.rl.steps=2"];
    let done = told(
        program()
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(&run)
            .args(more),
    )
    .fine();
    assert!(
        done.err.contains("2 rank(s)") && done.err.contains("not bitwise"),
        "{}",
        done.err
    );
    assert_eq!(std::fs::read(samples(&run, 1)).unwrap(), first);
    let steps: Vec<_> = step_rows(&run, "rl")
        .iter()
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2]);
    let sft: Vec<f64> = step_rows(&run, "sft")
        .iter()
        .map(|row| number(row, "sft/loss"))
        .collect();
    let alone: Vec<f64> = step_rows(&tiny().run, "sft")
        .iter()
        .take(1)
        .map(|row| number(row, "sft/loss"))
        .collect();
    assert!(
        (sft[0] - alone[0]).abs() <= 1e-5 * alone[0],
        "{} and {}",
        sft[0],
        alone[0]
    );
}

#[test]
fn two_ranks_observe_the_rewards_that_one_does() {
    let folder = scratch("ranks_observed");
    let (config, alone) = (config(&folder), folder.join("alone"));
    let order = "stages.rl.curriculum={order: {type: observed, buckets: 3, temperature: 0.01}}";
    let settings = ["--set", order];
    let mut one = program();
    one.arg("train").arg(&config).arg("--run-dir").arg(&alone);
    told(one.args(settings)).fine();
    let both = folder.join("both");
    copy(&alone, &both);
    std::fs::remove_dir_all(both.join("checkpoints/rl")).unwrap();
    told(two(&config, &both).args(settings)).fine();
    for step in ["step_000001", "final"] {
        let cursor = |run: &Path| {
            let path = run.join(format!("checkpoints/rl/{step}/trainer/state.json"));
            let text = std::fs::read_to_string(path).unwrap();
            let state: Value = serde_json::from_str(&text).unwrap();
            state["cursor"].clone()
        };
        let theirs = cursor(&alone);
        assert_eq!(cursor(&both), theirs, "{step}");
        let spreads = theirs["strands"].as_object().unwrap().values();
        let differ = |strand: &Value| strand["spread"].as_f64() > Some(0.0);
        assert!(
            spreads.into_iter().any(differ),
            "nothing is observed: {theirs}"
        );
    }
}

#[test]
fn judges_are_counted_over_both_ranks() {
    let counted = Arc::new(AtomicU64::new(0));
    let endpoint = judge("", counted.clone());
    let folder = scratch("ranks_judged");
    let (config, run) = (config(&folder), folder.join("run"));
    let reward = format!(
        "tasks.draw.rubric.rewards=[{{type: ssim, window_size: 7}}, {{type: judge, endpoint: \"{endpoint}\", model: m, with_reference: true, score: {{by: json}}, price: [2, 0]}}]"
    );
    let set = [
        "stages.rl.rollout.temperature=0.3",
        "stages.rl.steps=1",
        "stages.rl.eval={prompts: 0}",
    ];
    let mut command = two(&config, &run);
    for set in set.iter().chain([&reward.as_str()]) {
        command.arg("--set").arg(set);
    }
    told(&mut command).fine();
    let all = rows(&samples(&run, 1));
    let (valid, bad): (Vec<&Value>, Vec<&Value>) = all.iter().partition(|row| row["valid"] == true);
    assert_eq!(all.len(), 16, "two prompts of four on each rank");
    let row = &step_rows(&run, "rl")[0];
    let count = number(row, "judge/asked");
    assert!(!valid.is_empty(), "nothing was judged: {}", bad.len());
    assert_eq!(count, valid.len() as f64, "{row}");
    assert_eq!(count, counted.load(Ordering::SeqCst) as f64);
    // 500 tokens each, at two for a million.
    assert!(
        (number(row, "judge/cost") - count * 1e-3).abs() < 1e-9,
        "{row}"
    );
    assert_eq!(number(row, "judge/failed"), 0.0);
}

#[test]
fn gpus_is_launch_in_one_flag() {
    let folder = scratch("ranks_gpus");
    let config = config(&folder);
    let train = |flags: &[&str]| {
        let mut command = program();
        command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "60");
        command.arg("train").arg(&config).arg("--run-dir");
        told(command.arg(folder.join("run")).args(flags))
    };
    let short = ["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=1"];
    // Wherever the flag stands, and in either spelling.
    train(&[&["--gpus=2"], &short[..]].concat()).fine();
    let environment = std::fs::read_to_string(folder.join("run/environment.json")).unwrap();
    let environment: Value = serde_json::from_str(&environment).unwrap();
    assert_eq!(environment["run"]["world_size"], 2);
    assert!(folder.join("run/logs/rank_1.jsonl").exists());
    train(&[&short[..], &["--gpus", "2"]].concat()).fine();
    train(&["--gpus", "0"]).refused(2, &["--gpus: must be at least 1"]);
    train(&["--gpus", "2", "--dry-run"]).refused(2, &["--gpus", "svgrl plan"]);
    let mut inside = program();
    inside.env("WORLD_SIZE", "2").arg("train").arg(&config);
    told(inside.args(["--gpus", "2"])).refused(2, &["--gpus", "WORLD_SIZE"]);
}
