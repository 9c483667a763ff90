//! Ranks started by hand, and ranks that die or never come.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{step_rows, two};
use crate::cli::program::{program, scratch};
use crate::cli::tiny::config;
use crate::support::python::{NO_PYTHON, python};
use crate::support::skip::skip;

pub fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// One rank of two with torchrun's variables.
pub fn rank(number: usize, port: u16, config: &Path, flags: &[&str]) -> Command {
    let mut command = program();
    let number = number.to_string();
    command.envs([
        ("RANK", number.as_str()),
        ("LOCAL_RANK", &number),
        ("WORLD_SIZE", "2"),
        ("LOCAL_WORLD_SIZE", "2"),
    ]);
    command.envs([
        ("MASTER_ADDR", "127.0.0.1".to_owned()),
        ("MASTER_PORT", port.to_string()),
    ]);
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "8");
    command
        .arg("train")
        .arg(config)
        .arg("--run-dir")
        .arg(config.with_file_name("run"))
        .args(flags);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Waits until some steps are written.
pub fn wait_for_steps(run: &Path) {
    let begin = Instant::now();
    while std::fs::metadata(run.join("metrics.jsonl")).map_or(0, |data| data.len()) < 500 {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "no step was made"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the end; the exit status and what standard error holds.
pub fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn ranks_started_by_hand_train_together() {
    let folder = scratch("ranks_by_hand");
    let (config, port) = (config(&folder), port());
    let flags = ["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=1"];
    let ranks = [0, 1].map(|number| rank(number, port, &config, &flags).spawn().unwrap());
    let [first, second] = ranks.map(end);
    assert_eq!(
        (first.0, second.0),
        (Some(0), Some(0)),
        "{} {}",
        first.1,
        second.1
    );
    assert!(first.1.contains("rl 1/1"), "{}", first.1);
    assert!(
        !second.1.contains("rl 1/1"),
        "rank 1 keeps quiet: {}",
        second.1
    );
    assert_eq!(step_rows(&folder.join("run"), "sft").len(), 3);
}

#[test]
fn torchrun_can_start_the_ranks() {
    let folder = scratch("ranks_torchrun");
    let config = config(&folder);
    // torchrun is this module's name in the folder of scripts.
    let mut command = match python() {
        Some(python) => Command::new(python),
        None => skip!("{NO_PYTHON}"),
    };
    command.args([
        "-m",
        "torch.distributed.run",
        "--no-python",
        "--nproc-per-node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        env!("CARGO_BIN_EXE_svgrl"),
        "train",
    ]);
    command
        .arg(&config)
        .arg("--run-dir")
        .arg(folder.join("run"))
        .args(["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=1"]);
    let output = command.env("OMP_NUM_THREADS", "1").output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(step_rows(&folder.join("run"), "sft").len(), 3);
}

#[test]
fn a_killed_rank_is_named_and_the_other_ends() {
    let folder = scratch("ranks_killed");
    let (config, port) = (config(&folder), port());
    let flags = ["--set", "stages.sft.steps=1000000"];
    let [first, mut second] =
        [0, 1].map(|number| rank(number, port, &config, &flags).spawn().unwrap());
    wait_for_steps(&folder.join("run"));
    second.kill().unwrap();
    let killed = Instant::now();
    second.wait().unwrap();
    let (code, told) = end(first);
    assert!(killed.elapsed() < Duration::from_secs(90));
    assert_eq!(code, Some(75), "{told}");
    assert!(
        told.lines().last().unwrap_or_default().contains("rank 1"),
        "{told}"
    );
    assert!(told.contains("phase `sft step "), "{told}");
}

fn signal(child: &Child, name: &str) {
    let mut kill = Command::new("kill");
    kill.args([name, &child.id().to_string()]);
    assert!(kill.status().unwrap().success());
}

#[test]
fn a_rank_that_wakes_too_late_says_so_of_itself() {
    let folder = scratch("ranks_late");
    let (config, port) = (config(&folder), port());
    let flags = ["--set", "stages.sft.steps=1000000"];
    let [first, second] = [0, 1].map(|number| {
        let mut command = rank(number, port, &config, &flags);
        command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "4");
        command.spawn().unwrap()
    });
    wait_for_steps(&folder.join("run"));
    signal(&second, "-STOP");
    let (code, told) = end(first);
    assert_eq!(code, Some(75), "{told}");
    assert!(
        told.lines().last().unwrap_or_default().contains("rank 1"),
        "{told}"
    );
    // Past the deadline for certain: it counts from its own last collective.
    std::thread::sleep(Duration::from_secs(5));
    signal(&second, "-CONT");
    let (code, told) = end(second);
    assert_eq!(code, Some(75), "{told}");
    assert!(told.contains("rank 1 itself came late"), "{told}");
}

#[test]
fn launch_ends_all_ranks_when_one_is_killed() {
    let folder = scratch("ranks_launch");
    let config = config(&folder);
    let run = folder.join("run");
    let mut command = two(&config, &run);
    command
        .args(["--set", "stages.sft.steps=1000000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let launcher = command.spawn().unwrap();
    wait_for_steps(&run);
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", launcher.id())).unwrap();
    let ranks: Vec<&str> = children.split_whitespace().collect();
    let is_second = |pid: &str| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .unwrap()
            .split(|byte| *byte == 0)
            .any(|entry| entry == b"RANK=1")
    };
    let second = ranks.iter().find(|pid| is_second(pid)).unwrap();
    assert!(
        Command::new("kill")
            .args(["-9", second])
            .status()
            .unwrap()
            .success()
    );
    let killed = Instant::now();
    let (code, told) = end(launcher);
    assert!(killed.elapsed() < Duration::from_secs(90));
    assert_eq!(code, Some(128 + 9), "{told}");
    assert!(
        told.contains("launch: rank 1 of 2 ended with signal: 9"),
        "{told}"
    );
    assert!(
        ranks
            .iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists()),
        "a rank is left behind"
    );
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let folder = scratch("ranks_absent");
    let config = config(&folder);
    let mut command = rank(0, port(), &config, &[]);
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "2");
    let (code, told) = end(command.spawn().unwrap());
    assert_eq!(code, Some(75), "{told}");
    assert!(told.contains("have not joined within 2 s: 1"), "{told}");
    let log = std::fs::read_to_string(folder.join("run/train.log")).unwrap();
    assert!(
        log.starts_with("error: ") && log.contains("have not joined within 2 s: 1"),
        "{log}"
    );
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
