//! SIGTERM while the data is read, before the first step, within SFT, within GRPO and within an
//! evaluation; SIGINT once and once more; SIGHUP.

use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::tiny::{Tiny, wait_for};

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

#[test]
fn sigterm_writes_the_state_and_ends_with_status_143() {
    // After the first row, between evaluation and first step; within SFT; within GRPO.
    for rows in [1, 5, 13] {
        let tiny = Tiny::new();
        let mut child = tiny.start();
        wait_for(&mut child, || tiny.lines() >= rows);
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(143));
        let log = std::fs::read_to_string(tiny.run_folder().join("train.log")).unwrap();
        assert!(log.contains("SIGTERM: finishing "), "{log}");
        assert!(log.contains("again to stop now and lose "), "{log}");
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
fn a_signal_while_the_data_is_read_ends_the_process_and_says_so() {
    let tiny = Tiny::new();
    let rows: String = (0..20_000)
        .map(|row| format!("{{\"prompt\": \"{row}\", \"svg\": \"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><path d='M0 0h{row}'/></svg>\"}}\n"))
        .collect();
    std::fs::write(tiny.config().with_file_name("many.jsonl"), rows).unwrap();
    let mut command = tiny.command();
    command.args([
        "--set",
        "data.sources.shapes={format: jsonl, path: many.jsonl}",
    ]);
    let mut child = command.spawn().unwrap();
    wait_for(&mut child, || tiny.run_folder().join("train.log").exists());
    std::thread::sleep(Duration::from_millis(50));
    assert!(!tiny.run_folder().join("metrics.jsonl").exists());
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let log = std::fs::read_to_string(tiny.run_folder().join("train.log")).unwrap();
    assert!(log.contains("SIGTERM: no step has begun"), "{log}");
    assert!(!tiny.run_folder().join("checkpoints").exists());
}

#[test]
fn a_second_sigint_ends_the_step_in_flight_and_says_what_is_left() {
    let tiny = Tiny::new();
    let mut command = tiny.command();
    // An untrained policy ends about one token in five hundred: a step takes seconds.
    let stage = "stages=[{name: rl, algorithm: grpo, steps: 1, batch: {size: 2}, rollout: {group_size: 32, slots: 1, max_new_tokens: 20000}, eval: {prompts: 2, max_new_tokens: 8}}]";
    command.args(["--set", stage]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let metrics = tiny.run_folder().join("metrics.jsonl");
    wait_for(&mut child, || metrics.exists() && tiny.lines() >= 2);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(100));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("SIGINT again") && said.contains("there is no checkpoint yet"),
        "{said}"
    );
}

#[test]
fn sighup_writes_the_state_and_a_second_sigint_names_the_last_whole_checkpoint() {
    let tiny = Tiny::new();
    let mut child = tiny.start();
    wait_for(&mut child, || tiny.lines() >= 5);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(129));
    let checkpoint = tiny.newest("sft");
    // The evaluation before the second stage takes a good while: an untrained policy ends one token in five hundred.
    let mut command = tiny.command();
    let stage = "stages.rl.rollout={group_size: 32, slots: 1, max_new_tokens: 20000}";
    let accept = ["--accept-changes", "stages.rl.rollout"];
    command
        .args(["--set", stage])
        .args(accept)
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_for(&mut child, || tiny.lines() >= 10);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(600));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("sft/final") && !checkpoint.ends_with("final"),
        "{said}"
    );
}

#[test]
fn an_evaluation_that_does_not_end_in_the_grace_is_made_after_the_resume() {
    let whole = Tiny::slow_to_evaluate();
    whole.finish();
    // The evaluations before SFT's first step and after its last one.
    for (rows, step) in [(0, 0), (8, 6)] {
        let tiny = Tiny::slow_to_evaluate();
        let metrics = tiny.run_folder().join("metrics.jsonl");
        let mut command = tiny.command();
        let mut child = command.args(["--set", "grace_s=0"]).spawn().unwrap();
        wait_for(&mut child, || metrics.exists() && tiny.lines() >= rows);
        // It begins in a moment and takes a second and more.
        std::thread::sleep(Duration::from_millis(150));
        terminate(&child);
        assert_eq!(child.wait().unwrap().code(), Some(143));
        let state = format!("checkpoints/sft/step_{step:06}/trainer/state.json");
        let state = std::fs::read_to_string(tiny.run_folder().join(state)).unwrap();
        assert!(state.contains("\"evaluation_owed\": true"), "{state}");
        tiny.finish();
        let how = format!("SIGTERM in the evaluation of step {step}");
        tiny.outcome().assert_same(&whole.outcome(), &how);
    }
}
