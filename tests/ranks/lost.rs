//! Ranks started by hand, and ranks that die or never come.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::step_rows;
use crate::cli::program::{program, scratch};
use crate::cli::tiny::config;

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One rank of two with torchrun's variables.
fn rank(number: usize, port: u16, config: &Path, flags: &[&str]) -> Command {
    let mut command = program();
    let number = number.to_string();
    command.envs([("RANK", number.as_str()), ("LOCAL_RANK", &number), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")]);
    command.envs([("MASTER_ADDR", "127.0.0.1".to_owned()), ("MASTER_PORT", port.to_string())]);
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "8");
    command.arg("train").arg(config).arg("--run-dir").arg(config.with_file_name("run")).args(flags);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Waits for the end; the exit status and what standard error holds.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn ranks_started_by_hand_train_together() {
    let folder = scratch("ranks_by_hand");
    let (config, port) = (config(&folder), port());
    let flags = ["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=1"];
    let ranks = [0, 1].map(|number| rank(number, port, &config, &flags).spawn().unwrap());
    let [first, second] = ranks.map(end);
    assert_eq!((first.0, second.0), (Some(0), Some(0)), "{} {}", first.1, second.1);
    assert!(first.1.contains("rl 1/1"), "{}", first.1);
    assert!(!second.1.contains("rl 1/1"), "rank 1 keeps quiet: {}", second.1);
    assert_eq!(step_rows(&folder.join("run"), "sft").len(), 3);
}

/// Without torchrun on the path there is nothing to test.
#[test]
fn torchrun_can_start_the_ranks() {
    let folder = scratch("ranks_torchrun");
    let config = config(&folder);
    let mut command = Command::new("torchrun");
    command.args(["--no-python", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", env!("CARGO_BIN_EXE_svgrl"), "train"]);
    command.arg(&config).arg("--run-dir").arg(folder.join("run")).args(["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=1"]);
    let Ok(output) = command.env("OMP_NUM_THREADS", "1").output() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(step_rows(&folder.join("run"), "sft").len(), 3);
}

#[test]
fn a_killed_rank_is_named_and_the_other_ends() {
    let folder = scratch("ranks_killed");
    let (config, port) = (config(&folder), port());
    let flags = ["--set", "stages.sft.steps=1000000"];
    let [first, mut second] = [0, 1].map(|number| rank(number, port, &config, &flags).spawn().unwrap());
    let begin = Instant::now();
    let metrics = folder.join("run/metrics.jsonl");
    while std::fs::metadata(&metrics).map_or(0, |data| data.len()) < 500 {
        assert!(begin.elapsed() < Duration::from_secs(60), "no step was made");
        std::thread::sleep(Duration::from_millis(50));
    }
    second.kill().unwrap();
    let killed = Instant::now();
    second.wait().unwrap();
    let (code, told) = end(first);
    assert!(killed.elapsed() < Duration::from_secs(30));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.lines().last().unwrap_or_default().contains("rank 1"), "{told}");
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let folder = scratch("ranks_absent");
    let config = config(&folder);
    let mut command = rank(0, port(), &config, &[]);
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "2");
    let (code, told) = end(command.spawn().unwrap());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("have not joined within 2 s: 1"), "{told}");
}

#[test]
fn a_half_set_environment_is_the_users_mistake() {
    let folder = scratch("ranks_variables");
    let config = config(&folder);
    let mut command = rank(0, port(), &config, &[]);
    let (code, told) = end(command.env_remove("MASTER_ADDR").spawn().unwrap());
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("MASTER_ADDR"), "{told}");
    let (code, told) = end(rank(5, port(), &config, &[]).spawn().unwrap());
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("RANK"), "{told}");
}
