//! Stages on pairs of answers: what they learn, refuse and keep, and pairs of their own making.

mod given;
mod kept;
mod own;
mod pictured;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::cli::program::{program, rows, scratch, told, write, write_rows};
use crate::cli::tiny::{TOKENIZER, drawing};

/// A policy that computes in a moment, and what stands below `data:`, `tasks:` and `stages:`.
pub fn config(folder: &Path, sources: &str, stages: &str) -> PathBuf {
    let text = format!(
        "name: pairs
seed: 3
device: cpu
threads: 1
model:
  tokenizer: {TOKENIZER}
  init: {{architecture: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8}}
data:
  sources:
    {sources}
rewards: {{workers: 1}}
tasks:
  draw:
    templates: [\"{{prompt}}\"]
    render: {{size: 32}}
    rubric:
      rewards:
        - {{type: ssim, weight: 0.7, window_size: 7}}
        - {{type: code_efficiency, weight: 0.3, clip: [0, 1]}}
stages:
{stages}"
    );
    write(folder, "pairs.yaml", &text)
}

/// Six pairs: a circle is preferred to a square.
pub fn pairs() -> Vec<Value> {
    let pair = |at: usize| {
        let circle = drawing(&format!(r#"<circle cx="{}" cy="32" r="12"/>"#, 20 + 3 * at));
        let square = drawing(&format!(
            r#"<rect x="{}" y="20" width="9" height="9"/>"#,
            9 + at
        ));
        json!({"prompt": format!("shape {at}"), "chosen": circle, "rejected": square})
    };
    (0..6).map(pair).collect()
}

/// The run folder of two steps on pairs.
pub fn short_run(name: &str) -> PathBuf {
    let folder = scratch(name);
    write_rows(&folder, "pairs.jsonl", &pairs());
    let stage = "  - {name: dpo, algorithm: dpo, steps: 2, batch: {size: 4}}\n";
    let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", stage);
    let run = folder.join("run");
    told(&mut train(&config, &run)).fine();
    run
}

pub fn train(config: &Path, run: &Path) -> Command {
    let mut command = program();
    command.arg("train").arg(config).arg("--run-dir").arg(run);
    command
}

/// The same on two ranks.
pub fn two(config: &Path, run: &Path) -> Command {
    let mut command = program();
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "60");
    command.args(["launch", "--nproc-per-node", "2", "--", "train"]);
    command.arg(config).arg("--run-dir").arg(run);
    command
}

/// A run's rows of metrics without what a clock says.
pub fn told_rows(run: &Path) -> Vec<Map<String, Value>> {
    let all = rows(&run.join("metrics.jsonl")).into_iter();
    let mut all: Vec<_> = all.filter_map(|row| row.as_object().cloned()).collect();
    for row in &mut all {
        row.retain(|key, _| {
            let clock = ["time", "perf", "svg/render_ms"];
            !clock.iter().any(|start| key.starts_with(start))
        });
    }
    all
}

/// A metric at every step of a stage.
pub fn curve(run: &Path, stage: &str, key: &str) -> Vec<f64> {
    let of_stage = told_rows(run)
        .into_iter()
        .filter(|row| row["stage"] == stage);
    of_stage.filter_map(|row| row.get(key)?.as_f64()).collect()
}

pub fn weights(run: &Path, stage: &str) -> Vec<u8> {
    std::fs::read(run.join(format!("checkpoints/{stage}/final/model.safetensors"))).unwrap()
}
