//! SIGTERM before the first step, within SFT and within GRPO.

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
