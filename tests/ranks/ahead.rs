//! Sampling ahead of the learner with several ranks: each has its part of every batch in the queue.

use std::path::Path;

use serde_json::Value;

use super::{samples, step_rows, two};
use crate::cli::program::{copy, program, rows, scratch, told};
use crate::cli::tiny::config;

/// Three steps, one ahead, every step's checkpoint.
const AHEAD: [&str; 6] = [
    "--set",
    "stages.rl.steps=3",
    "--set",
    "stages.rl.rollout.max_staleness=1",
    "--set",
    "stages.rl.checkpoint={every: 1, keep_last: 9}",
];

fn sampled(run: &Path, step: u64) -> Vec<(Value, Value)> {
    let rows = rows(&samples(run, step)).into_iter();
    rows.map(|row| (row["prompt_id"].clone(), row["token_ids"].clone()))
        .collect()
}

#[test]
fn two_ranks_sample_ahead_what_one_does_and_either_goes_on_with_it() {
    let folder = scratch("ranks_ahead");
    let (config, alone) = (config(&folder), folder.join("alone"));
    let train = |run: &Path, flags: &[&str]| {
        let mut one = program();
        one.arg("train").arg(&config).arg("--run-dir").arg(run);
        told(one.args(AHEAD).args(flags))
    };
    train(&alone, &[]).fine();
    let both = folder.join("both");
    copy(&alone, &both);
    std::fs::remove_dir_all(both.join("checkpoints/rl")).unwrap();
    told(two(&config, &both).args(AHEAD)).fine();
    // Both batches are sampled with the stage's first weights.
    for step in [1, 2] {
        assert_eq!(sampled(&both, step), sampled(&alone, step), "step {step}");
    }
    for run in [&alone, &both] {
        let behind: Vec<f64> = step_rows(run, "rl")
            .iter()
            .map(|row| row["rollout/staleness/mean"].as_f64().unwrap())
            .collect();
        assert_eq!(behind, [0.0, 1.0, 1.0]);
    }
    // What two had sampled ahead, one learns from, and the other way round.
    let from = |run: &Path| run.join("checkpoints/rl/step_000001");
    let before = sampled(&both, 2);
    let flags = from(&both);
    train(&both, &["--resume", flags.to_str().unwrap()]).fine();
    assert_eq!(sampled(&both, 2), before);
    let flags = from(&alone);
    told(two(&config, &alone).args(AHEAD).arg("--resume").arg(flags)).fine();
    assert_eq!(sampled(&alone, 2), before);
    for run in [&alone, &both] {
        let steps = step_rows(run, "rl");
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[2]["progress/prompts"].as_f64(), Some(12.0));
    }
}
