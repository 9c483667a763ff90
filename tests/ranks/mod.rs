//! Two ranks do what one does; a lost rank ends them all, with its name.

mod agree;
mod ahead;
pub mod lost;
mod nodes;
mod same;
mod sharded;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::program::{program, rows};

/// `svgrl launch` of two ranks of a training, without its last flags.
fn two(config: &Path, run: &Path) -> std::process::Command {
    let mut command = program();
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "60");
    command
        .args(["launch", "--nproc-per-node", "2", "--", "train"])
        .arg(config)
        .arg("--run-dir")
        .arg(run);
    command
}

/// The rows of training steps of a stage.
fn step_rows(run: &Path, stage: &str) -> Vec<Value> {
    let mut all = rows(&run.join("metrics.jsonl"));
    all.retain(|row| row["stage"] == stage && row.get("optim/grad_norm").is_some());
    all
}

fn samples(run: &Path, step: u64) -> PathBuf {
    run.join(format!("samples/rl/step_{step:06}.jsonl"))
}
