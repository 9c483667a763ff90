//! Ranks that are killed or stopped while blocks travel among them.

use std::process::Command;

use crate::cli::program::scratch;
use crate::cli::tiny::config;
use crate::ranks::lost::{end, port, rank, wait_for_steps};

/// Much goes back and forth in each of many short steps.
const FLAGS: [&str; 4] = [
    "--set",
    "sharding.stage=3",
    "--set",
    "stages.sft.steps=1000000",
];

#[test]
fn a_rank_that_is_killed_is_named_at_every_stage() {
    for stage in [2, 3] {
        let folder = scratch(&format!("sharded_killed{stage}"));
        let (config, port) = (config(&folder), port());
        let stage = format!("sharding.stage={stage}");
        let flags = ["--set", &stage, FLAGS[2], FLAGS[3]];
        let [first, mut second] = [0, 1].map(|number| {
            let mut command = rank(number, port, &config, &flags);
            command.spawn().unwrap()
        });
        wait_for_steps(&folder.join("run"));
        second.kill().unwrap();
        second.wait().unwrap();
        let (code, told) = end(first);
        assert_eq!(code, Some(75), "{told}");
        let last = told.lines().last().unwrap_or_default();
        assert!(last.contains("rank 1"), "{told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

#[test]
fn a_signal_ends_all_ranks_with_a_checkpoint() {
    let folder = scratch("sharded_signalled");
    let (config, port) = (config(&folder), port());
    let ranks = [0, 1].map(|number| rank(number, port, &config, &FLAGS).spawn().unwrap());
    wait_for_steps(&folder.join("run"));
    for child in &ranks {
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &child.id().to_string()]);
        assert!(kill.status().unwrap().success());
    }
    for (code, told) in ranks.map(end) {
        assert_eq!(code, Some(143), "{told}");
    }
    let stage = folder.join("run/checkpoints/sft");
    let names = std::fs::read_dir(stage).unwrap().flatten();
    let whole = names.filter(|entry| entry.file_name().to_string_lossy().starts_with("step_"));
    let share =
        |path: std::path::PathBuf| path.join("trainer/optimizer-00002-of-00002.safetensors");
    assert_eq!(
        whole.filter(|entry| share(entry.path()).exists()).count(),
        1
    );
}
