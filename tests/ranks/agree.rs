//! Ranks agree before they compute: who is given something else, or belongs to another run, is named at once.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::lost::{end, port, rank, wait_for_steps};
use super::{step_rows, two};
use crate::cli::program::{program, scratch, told};
use crate::cli::tiny::config;
use crate::support::python::{NO_PYTHON, python};
use crate::support::skip::skip;

const SHORT: [&str; 4] = ["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=1"];

/// Both ranks' ends, the second one with `flags` of its own.
fn ends(config: &Path, flags: &[&str]) -> [(Option<i32>, String); 2] {
    let port = port();
    let first = rank(0, port, config, &SHORT).spawn().unwrap();
    let all = [&SHORT[..], flags].concat();
    let second = rank(1, port, config, &all).spawn().unwrap();
    [first, second].map(end)
}

#[test]
fn a_rank_with_another_key_ends_the_start_of_all() {
    let config = config(&scratch("agree_keys"));
    for (flags, said) in [
        (
            ["--set", "stages.rl.optimizer.learning_rate=0.5"],
            "learning_rate: rank 0 has 0.001, rank 1 has 0.5",
        ),
        (["--seed", "9"], "seed: rank 0 has 3, rank 1 has 9"),
        (
            ["--set", "stages.sft.steps=4"],
            "stages.0.steps: rank 0 has 3, rank 1 has 4",
        ),
    ] {
        let begun = Instant::now();
        for (code, told) in ends(&config, &flags) {
            assert_eq!(code, Some(2), "{told}");
            assert!(told.contains(said), "{told}");
        }
        assert!(begun.elapsed() < Duration::from_secs(90));
    }
    assert!(!config.with_file_name("run").join("metrics.jsonl").exists());
    for (code, told) in ends(&config, &["--set", "threads=2"]) {
        assert_eq!(code, Some(0), "{told}");
    }
}

#[test]
fn a_rank_with_other_rows_is_named() {
    let folder = scratch("agree_rows");
    let config = config(&folder);
    let other = folder.join("other.jsonl");
    let text = std::fs::read_to_string(folder.join("drawings.jsonl")).unwrap();
    std::fs::write(&other, text.replace("red", "orange")).unwrap();
    for (code, told) in ends(
        &config,
        &["--set", "data.sources.drawings.path=other.jsonl"],
    ) {
        assert_eq!(code, Some(2), "{told}");
        assert!(
            told.contains("data.sources.drawings of rank 1 is not rank 0's"),
            "{told}"
        );
    }
    std::fs::write(&other, "{\n").unwrap();
    for (code, told) in ends(
        &config,
        &["--set", "data.sources.drawings.path=other.jsonl"],
    ) {
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains("other.jsonl"), "{told}");
    }
}

#[test]
fn a_rank_of_another_run_is_turned_away_and_the_run_goes_on() {
    let folder = scratch("agree_stranger");
    let (config, port) = (config(&folder), port());
    let first = rank(0, port, &config, &SHORT).spawn().unwrap();
    let elsewhere = folder.join("elsewhere");
    let strange = ["--run-dir", elsewhere.to_str().unwrap()];
    let mut stranger = program();
    stranger
        .args(["train"])
        .arg(&config)
        .args(strange)
        .args(SHORT);
    for (name, value) in rank(1, port, &config, &[]).get_envs() {
        value.map(|value| stranger.env(name, value));
    }
    told(&mut stranger).refused(
        2,
        &[
            "the ranks that meet here are those of the run `tiny`",
            "elsewhere",
        ],
    );
    assert!(!elsewhere.exists(), "it touches nothing");
    let second = rank(1, port, &config, &SHORT).spawn().unwrap();
    for (code, told) in [first, second].map(end) {
        assert_eq!(code, Some(0), "{told}");
    }
}

#[test]
fn a_second_start_on_the_folder_is_refused_with_all_its_ranks() {
    let folder = scratch("agree_lock");
    let (config, run) = (config(&folder), folder.join("run"));
    let mut first = two(&config, &run);
    let long = ["--set", "stages.sft.steps=1000000"];
    let mut first = first
        .args(long)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for_steps(&run);
    told(two(&config, &run).args(long)).refused(2, &["the folder is in use by process"]);
    let pid = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(
        first.wait().unwrap().code(),
        Some(143),
        "both ranks wrote their state"
    );
    assert!(
        std::fs::read_dir(run.join("checkpoints/sft"))
            .unwrap()
            .count()
            > 0
    );
}

/// The program under torchrun, with restarts: rank 0 and rank 1 in turn are killed in the middle of an attempt.
fn torchrun(python: &str, config: &Path, restarts: usize) -> (bool, String) {
    let script = config.with_file_name("rank.sh");
    let run = config.with_file_name("run");
    // The attempt's number chooses the victim; rows so far tell that it is under way.
    let text = format!(
        "#!/bin/bash
n=$TORCHELASTIC_RESTART_COUNT
rows() {{ cat '{run}/metrics.jsonl' 2>/dev/null | wc -l; }}
before=$(rows)
'{program}' train '{config}' --run-dir '{run}' --set stages.sft.steps=60 --set stages.sft.checkpoint.every=5 --set stages.rl.steps=1 &
child=$!
if [ $n -lt {restarts} ] && [ $((n % 2)) = $RANK ]; then
  while kill -0 $child 2>/dev/null && [ $(rows) -lt $((before + 9)) ]; do sleep 0.02; done
  kill -9 $child
fi
wait $child
",
        run = run.display(),
        config = config.display(),
        program = env!("CARGO_BIN_EXE_svgrl"),
    );
    std::fs::write(&script, text).unwrap();
    let mut command = Command::new(python);
    command.args([
        "-m",
        "torch.distributed.run",
        "--no-python",
        "--nproc-per-node",
        "2",
    ]);
    command.args([
        "--max-restarts",
        &restarts.to_string(),
        "--monitor-interval",
        "0.1",
    ]);
    command.args([
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "bash",
    ]);
    let output = command
        .arg(&script)
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), told)
}

#[test]
fn ranks_that_torchrun_restarts_meet_again_and_end_in_the_same_weights() {
    let Some(python) = python() else {
        skip!("{NO_PYTHON}")
    };
    let folder = scratch("agree_restarts");
    let config = config(&folder);
    let whole = folder.join("whole");
    let steps = ["--set", "stages.sft.steps=60", "--set", "stages.rl.steps=1"];
    told(
        two(&config, &whole)
            .args(steps)
            .args(["--set", "stages.sft.checkpoint.every=5"]),
    )
    .fine();
    let (fine, said) = torchrun(&python, &config, 3);
    assert!(fine, "{said}");
    assert_eq!(step_rows(&folder.join("run"), "sft").len(), 60);
    for stage in ["sft", "rl"] {
        let weights = |run: &Path| {
            std::fs::read(run.join(format!("checkpoints/{stage}/final/model.safetensors"))).unwrap()
        };
        assert!(weights(&folder.join("run")) == weights(&whole), "{stage}");
    }
}

#[test]
fn a_listener_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = config(&scratch("agree_silent"));
    let mut second = rank(1, port, &config, &SHORT);
    let begun = Instant::now();
    let (code, told) = end(second
        .env("SVGRL_COLLECTIVE_TIMEOUT_S", "2")
        .spawn()
        .unwrap());
    assert!(
        begun.elapsed() < Duration::from_secs(90),
        "{:?}",
        begun.elapsed()
    );
    assert_ne!(code, Some(0));
    assert!(told.contains(&port.to_string()), "{told}");
}

#[test]
fn a_launcher_that_is_killed_in_its_first_moments_leaves_no_rank() {
    let folder = scratch("agree_orphans");
    let (config, run) = (config(&folder), folder.join("run"));
    for pause in [5, 20, 60, 150, 400] {
        let mut launcher = two(&config, &run);
        let long = ["--set", "stages.sft.steps=1000000"];
        let mut launcher = launcher
            .args(long)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        let named = |pid: &std::ffi::OsStr| {
            let line =
                std::fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(run.to_str().unwrap())
        };
        let left = || {
            let all = std::fs::read_dir("/proc").unwrap().flatten();
            all.filter(|entry| named(&entry.file_name())).count()
        };
        let begun = Instant::now();
        while left() > 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "{} ranks are left after {pause} ms",
                left()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = std::fs::remove_dir_all(&run);
    }
}
