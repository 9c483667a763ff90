//! Runs that sample ahead of the learner with the engine in this process: the schedule of versions is exact, two runs are
//! the same, and one that is interrupted is the one that was not.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::killed::kill;
use super::tiny::{Outcome, Tiny, wait_for};

/// Rows of metrics before the second stage's first step.
const BEFORE_RL: usize = 10 + 2;

fn whole(staleness: usize) -> Outcome {
    let tiny = Tiny::ahead(staleness);
    tiny.finish();
    tiny.outcome()
}

#[test]
fn every_batch_is_as_old_as_it_may_be_and_two_runs_are_the_same() {
    for staleness in [1, 2] {
        let tiny = Tiny::ahead(staleness);
        let often = ["--set", "stages.rl.checkpoint={every: 1, keep_last: 9}"];
        assert!(tiny.command().args(often).status().unwrap().success());
        let outcome = tiny.outcome();
        whole(staleness).assert_same(&outcome, "another run");
        // Updates of the policy after each step: none where no reward differs.
        let mut updates = vec![0];
        for name in (1..6)
            .map(|step| format!("step_{step:06}"))
            .chain(["final".into()])
        {
            let path = format!("checkpoints/rl/{name}/trainer/state.json");
            let text = std::fs::read(tiny.run_folder().join(path)).unwrap();
            let state: Value = serde_json::from_slice(&text).unwrap();
            updates.push(state["updates"].as_u64().unwrap());
        }
        assert!(updates.windows(2).filter(|two| two[0] < two[1]).count() > 3);
        for step in 1..=6usize {
            let path = format!("samples/rl/step_{step:06}.jsonl");
            let text = std::fs::read_to_string(tiny.run_folder().join(path)).unwrap();
            let version = updates[(step - 1).saturating_sub(staleness)];
            for line in text.lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                assert_eq!(row["policy_version"], version, "step {step}");
                assert!(row["policy_spans"].is_null());
            }
            let row = outcome.step("rl", step as u64);
            let behind = updates[step - 1] - version;
            assert_eq!(row["rollout/staleness/mean"].as_f64(), Some(behind as f64));
            let queue = (6 - step).min(staleness);
            assert_eq!(row["engine/queue"].as_f64(), Some(queue as f64));
            let mismatch = row["policy/kl_mismatch"].as_f64().unwrap();
            assert_eq!(mismatch > 1e-8, behind > 0, "step {step}: {mismatch}");
        }
        let draws = outcome.step("rl", 6)["progress/prompts"].as_f64();
        assert_eq!(
            draws,
            Some(18.0),
            "a batch was drawn that no step learns from"
        );
    }
}

#[test]
fn a_run_ahead_that_was_killed_and_continued_is_the_whole_run() {
    for staleness in [1, 2] {
        let whole = whole(staleness);
        for rows in [BEFORE_RL + 1, BEFORE_RL + 3, BEFORE_RL + 5] {
            let tiny = Tiny::ahead(staleness);
            kill(&tiny, || tiny.lines() >= rows);
            tiny.finish();
            let how = format!("{staleness} ahead, killed after {rows} rows");
            tiny.outcome().assert_same(&whole, &how);
        }
    }
}

#[test]
fn a_run_ahead_that_a_signal_stopped_is_the_whole_run() {
    let whole = whole(2);
    // With and without time for the step in flight to end.
    for (rows, grace) in [(BEFORE_RL + 1, "grace_s=60"), (BEFORE_RL + 2, "grace_s=0")] {
        let tiny = Tiny::ahead(2);
        let mut child = tiny.command().args(["--set", grace]).spawn().unwrap();
        wait_for(&mut child, || tiny.lines() >= rows);
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(143));
        let ahead = tiny.newest("rl").join("trainer/ahead.json");
        let stored: Value = serde_json::from_slice(&std::fs::read(ahead).unwrap()).unwrap();
        assert!(!stored["batches"].as_array().unwrap().is_empty());
        tiny.finish();
        tiny.outcome().assert_same(&whole, grace);
    }
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

#[test]
fn another_distance_draws_what_was_sampled_ahead_anew() {
    let tiny = Tiny::ahead(2);
    kill(&tiny, || tiny.lines() >= BEFORE_RL + 3);
    let run = |flags: &[&str]| {
        let output = tiny.command().args(flags).output().unwrap();
        (output.status.code(), super::tiny::told(&output))
    };
    let shorter = ["--set", "stages.rl.rollout.max_staleness=0"];
    let (code, said) = run(&shorter);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("max_staleness"), "{said}");
    let accepted = ["--accept-changes", "stages.rl.rollout.max_staleness"];
    let (code, said) = run(&[&shorter[..], &accepted].concat());
    assert_eq!(code, Some(0), "{said}");
    let outcome = tiny.outcome();
    let row = outcome.step("rl", 6);
    let draws = row["progress/prompts"].as_f64();
    assert_eq!(draws, Some(18.0), "rows were drawn twice, or lost");
    assert_eq!(row["rollout/staleness/mean"].as_f64(), Some(0.0));
}
