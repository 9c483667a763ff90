//! A run of a few seconds: eight drawings learnt nearly by heart, then two GRPO steps. It is made
//! once; tests that change a run folder take a copy.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::json;

use super::program::{copy, program, scratch, shared_scratch, told, write, write_rows};

/// The tokenizer that the repository carries.
pub const TOKENIZER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/quickstart_tokenizer");

/// A square drawing of side 64 around `inner`.
pub fn drawing(inner: &str) -> String {
    format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{inner}</svg>"#)
}

/// Writes a config and its eight drawings into `folder`.
pub fn config(folder: &Path) -> PathBuf {
    let colours = ["red", "green", "blue", "black"];
    let rows: Vec<_> = (0..8)
        .map(|index| {
            let (colour, place) = (colours[index % 4], 16 + 4 * index);
            let (name, inner) = match index < 4 {
                true => ("circle", format!(r#"<circle cx="{place}" cy="32" r="12" fill="{colour}"/>"#)),
                false => ("square", format!(r#"<rect x="{place}" y="20" width="16" height="16" fill="{colour}"/>"#)),
            };
            json!({"id": format!("{name}-{colour}"), "prompt": format!("a {colour} {name}"), "svg": drawing(&inner)})
        })
        .collect();
    write_rows(folder, "drawings.jsonl", &rows);
    let text = TEXT.replace("TOKENIZER", TOKENIZER);
    write(folder, "tiny.yaml", &text)
}

const TEXT: &str = "\
name: tiny
seed: 3
device: cpu
threads: 1
peak_tflops: 0.5
model:
  tokenizer: TOKENIZER
  init: {architecture: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8}
data:
  sources:
    drawings: {format: jsonl, path: drawings.jsonl, held_out: 2}
rewards: {workers: 1}
tasks:
  draw:
    completion: {format: svg}
    render: {size: 32}
    rubric:
      rewards:
        - {type: ssim, weight: 0.7, window_size: 7}
        - {type: code_efficiency, weight: 0.3, clip: [0, 1]}
stages:
  - name: sft
    algorithm: sft
    steps: 60
    batch: {size: 6}
    optimizer: {learning_rate: 1.0e-2}
    checkpoint: {every: 0}
  - name: rl
    algorithm: grpo
    steps: 2
    batch: {size: 4}
    rollout: {group_size: 4, max_new_tokens: 48}
    optimizer: {learning_rate: 1.0e-3}
    eval: {prompts: 2}
    checkpoint: {every: 1}
";

/// The finished run, made once.
pub struct Tiny {
    /// Its config.
    pub config: PathBuf,
    /// Its run folder.
    pub run: PathBuf,
}

impl Tiny {
    /// The model folder at the end of the run.
    pub fn model(&self) -> PathBuf {
        self.run.join("checkpoints/rl/final")
    }

    /// A copy of the run folder that a test may change.
    pub fn copy(&self, name: &str) -> PathBuf {
        let folder = scratch(name);
        copy(&self.run, &folder);
        folder
    }
}

/// The finished run.
pub fn tiny() -> &'static Tiny {
    static TINY: OnceLock<Tiny> = OnceLock::new();
    TINY.get_or_init(|| {
        let folder = shared_scratch("tiny");
        let config = config(&folder);
        let run = folder.join("run");
        told(
            program()
                .arg("train")
                .arg(&config)
                .arg("--run-dir")
                .arg(&run),
        )
        .fine();
        Tiny { config, run }
    })
}
