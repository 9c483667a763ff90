//! Runs of several ranks that share everything out, and checkpoints that any other number of ranks continues.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::super::step_rows;
use crate::cli::program::{copy, program, scratch, told};
use crate::cli::tiny::{config, tiny};

/// A training of `size` ranks at `stage` of sharding.
pub fn train(config: &Path, run: &Path, (size, stage): (usize, u8), set: &[&str]) -> Command {
    let mut command = program();
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "120");
    let size = size.to_string();
    command.args(["launch", "--nproc-per-node", &size, "--", "train"]);
    command.arg(config).arg("--run-dir").arg(run);
    command.arg("--set").arg(format!("sharding.stage={stage}"));
    for set in set {
        command.args(["--set", set]);
    }
    command
}

fn number(row: &Value, key: &str) -> f64 {
    row[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} is not in {row}"))
}

/// Fails where a metric of two runs' rows is further apart than `bound`, relative to the second.
pub fn close(ours: &[Value], theirs: &[Value], keys: &[&str], bound: f64) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        for key in keys {
            let (a, b) = (number(ours, key), number(theirs, key));
            // A loss near zero is a difference of terms of about 1: relative to them.
            let scale = if *key == "policy/loss" { 1.0 } else { b.abs() };
            let step = &theirs["step"];
            assert!(
                (a - b).abs() <= bound * scale,
                "{key} of {step}: {a} and {b}"
            );
        }
    }
}

#[test]
fn four_ranks_that_share_all_sample_and_learn_what_one_does() {
    let run = tiny().copy("sharded_same");
    std::fs::remove_dir_all(run.join("checkpoints/rl")).unwrap();
    // With a reference policy, which is shared out as well.
    let kl = "stages.rl.kl.coefficient=0.01";
    let alone = scratch("sharded_same_alone");
    copy(&run, &alone);
    let one = ["--set", kl, "--accept-changes", "stages.rl.kl"];
    let mut command = program();
    command.arg("train").arg(&tiny().config);
    told(command.arg("--run-dir").arg(&alone).args(one)).fine();
    let mut four = train(&tiny().config, &run, (4, 3), &[kl]);
    told(four.args(["--accept-changes", "stages.rl.kl"])).fine();
    let keys = [
        "policy/loss",
        "policy/entropy",
        "policy/kl_ref",
        "optim/grad_norm",
        "reward/total/mean",
    ];
    let rows = |run: &Path| step_rows(run, "rl")[..1].to_vec();
    close(&rows(&run), &rows(&alone), &keys[..2], 1e-5);
    close(&rows(&run), &rows(&alone), &keys[3..], 1e-5);
    assert!(number(&rows(&alone)[0], "optim/grad_norm") > 0.0);
    let files = std::fs::read_dir(run.join("checkpoints/rl/final/trainer")).unwrap();
    let mut files: Vec<String> = files
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert!(
        files.contains(&"optimizer-00004-of-00004.safetensors".to_owned()),
        "{files:?}"
    );
}

/// `steps` of the SFT stage alone.
fn sft(steps: u64) -> Vec<String> {
    vec![
        format!("stages.sft.steps={steps}"),
        "stages.sft.optimizer.epsilon=1e-3".into(),
        "stages.rl.steps=1".into(),
        "stages.rl.eval={prompts: 0}".into(),
        "stages.sft.checkpoint={every: 4}".into(),
    ]
}

/// The first four of eight SFT steps by `first`, then all by `second`.
fn both(folder: &Path, name: &str, first: (usize, u8), second: (usize, u8)) -> PathBuf {
    let (config, run) = (config(folder), folder.join(name));
    let half = sft(4);
    let half: Vec<&str> = half.iter().map(String::as_str).collect();
    told(&mut train(&config, &run, first, &half)).fine();
    // As a kill after the fourth step would have left it.
    for beyond in ["checkpoints/rl", "checkpoints/sft/final"] {
        std::fs::remove_dir_all(run.join(beyond)).unwrap();
    }
    go_on(folder, &run, second);
    run
}

fn go_on(folder: &Path, run: &Path, ranks: (usize, u8)) {
    let whole = sft(8);
    let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
    told(&mut train(&config(folder), run, ranks, &whole)).fine();
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoints/sft/final/model.safetensors")).unwrap()
}

#[test]
fn a_checkpoint_continues_under_any_number_of_ranks_and_stage() {
    let folder = scratch("sharded_continued");
    let alone = folder.join("alone");
    config(&folder);
    go_on(&folder, &alone, (1, 0));
    let expected = step_rows(&alone, "sft");
    for (name, first, second) in [
        ("out", (4, 3), (1, 0)),
        ("in", (1, 0), (4, 3)),
        ("across", (2, 1), (3, 2)),
        ("one", (1, 3), (1, 0)),
        ("other", (1, 0), (1, 2)),
    ] {
        let run = both(&folder, name, first, second);
        let keys = ["sft/loss", "optim/grad_norm"];
        close(&step_rows(&run, "sft"), &expected, &keys, 1e-4);
    }
}

#[test]
fn equal_worlds_continue_bitwise_and_damaged_shares_are_named() {
    let folder = scratch("sharded_bitwise");
    config(&folder);
    for stage in [1, 3] {
        let whole = folder.join(format!("whole{stage}"));
        go_on(&folder, &whole, (2, stage));
        let parts = both(&folder, &format!("parts{stage}"), (2, stage), (2, stage));
        assert!(weights(&parts) == weights(&whole), "stage {stage}");
        let share = "checkpoints/sft/final/trainer/optimizer-00002-of-00002.safetensors";
        let read = |run: &Path| std::fs::read(run.join(share)).unwrap();
        assert!(read(&parts) == read(&whole), "stage {stage}");
    }
    let run = folder.join("whole3");
    std::fs::remove_dir_all(run.join("checkpoints/rl")).unwrap();
    let last = run.join("checkpoints/sft/final");
    let share = last.join("trainer/optimizer-00001-of-00002.safetensors");
    let bytes = std::fs::read(&share).unwrap();
    let mut wrong = bytes.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let again = |said: &str| {
        let path = last.to_str().unwrap();
        let mut command = train(&config(&folder), &run, (1, 0), &["stages.sft.steps=9"]);
        let told = told(command.args(["--resume", path]));
        told.refused(2, &["optimizer-00001-of-00002.safetensors", said]);
    };
    std::fs::write(&share, wrong).unwrap();
    again("checksum");
    std::fs::remove_file(&share).unwrap();
    again("No such file");
}
