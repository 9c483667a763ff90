//! SIGTERM before the first step, within SFT, within GRPO and within an evaluation.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::tiny::{Tiny, wait_for};

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

#[test]
fn sigterm_writes_the_state_and_ends_with_status_0() {
    // After the first row, between evaluation and first step; within SFT; within GRPO.
    for rows in [1, 5, 13] {
        let tiny = Tiny::new();
        let mut child = tiny.start();
        wait_for(&mut child, || tiny.lines() >= rows);
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let stage = if rows < 10 { "sft" } else { "rl" };
        let states = std::fs::read_dir(tiny.run_folder().join("checkpoints").join(stage)).unwrap();
        assert!(
            states
                .flatten()
                .any(|entry| entry.path().join("model.safetensors").exists()),
            "{rows} rows"
        );
        tiny.finish();
        tiny.outcome()
            .assert_whole(&format!("SIGTERM after {rows} rows"));
    }
}

#[test]
fn an_evaluation_that_does_not_end_in_the_grace_is_made_after_the_resume() {
    // The evaluations before SFT's first step and after its last one.
    for (rows, step) in [(0, 0), (8, 6)] {
        let caught = (0..20).any(|_| {
            let tiny = Tiny::new();
            let metrics = tiny.run_folder().join("metrics.jsonl");
            let mut command = tiny.command();
            let mut child = command.args(["--set", "grace_s=0"]).spawn().unwrap();
            wait_for(&mut child, || metrics.exists() && tiny.lines() >= rows);
            terminate(&child);
            assert_eq!(child.wait().unwrap().code(), Some(0));
            let state = format!("checkpoints/sft/step_{step:06}/trainer/state.json");
            let state = std::fs::read_to_string(tiny.run_folder().join(state)).unwrap_or_default();
            tiny.finish();
            tiny.outcome()
                .assert_whole(&format!("SIGTERM in the evaluation of step {step}"));
            state.contains("\"evaluation_owed\": true")
        });
        assert!(caught, "no signal fell into the evaluation of step {step}");
    }
}
