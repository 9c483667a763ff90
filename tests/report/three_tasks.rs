//! A run of seconds with three tasks: drawings from words, drafts to be mended, captions.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::json;

use crate::cli::program::{program, shared_scratch, told, write, write_rows};
use crate::cli::tiny::{TOKENIZER, drawing};

const TEXT: &str = "\
name: three
seed: 3
device: cpu
threads: 1
model:
  tokenizer: TOKENIZER
  init: {architecture: qwen3, hidden_size: 48, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 12}
data:
  sources:
    drawings: {format: jsonl, path: drawings.jsonl, task: draw, held_out: 4}
    drafts: {format: jsonl, path: drafts.jsonl, task: mend, held_out: 4}
    captions: {format: jsonl, path: captions.jsonl, task: tell, held_out: 4}
rewards: {workers: 1}
tasks:
  draw:
    templates: [\"{prompt}\"]
    render: {size: 32}
    rubric: {rewards: [{type: ssim, weight: 0.7, window_size: 7}, {type: code_efficiency, weight: 0.3, clip: [0, 1]}]}
  mend:
    type: refinement
    templates: [\"{prompt} {draft}\"]
    render: {size: 32}
    rubric: {rewards: [{type: ssim, weight: 1.0, window_size: 7}]}
  tell:
    type: caption
    templates: [\"say {draft}\"]
    rubric: {rewards: [{type: rouge_l, weight: 1.0}]}
    metrics: []
stages:
  - name: sft
    algorithm: sft
    steps: 120
    batch: {size: 12}
    optimizer: {learning_rate: 1.0e-2}
    eval: {prompts: 12, max_new_tokens: 72}
    checkpoint: {every: 60}
  - name: rl
    algorithm: grpo
    steps: 4
    batch: {size: 6}
    rollout: {group_size: 4, max_new_tokens: 72}
    optimizer: {learning_rate: 1.0e-3}
    eval: {prompts: 12}
    checkpoint: {every: 2}
";

fn shape(index: usize) -> (String, String) {
    let (colour, place) = (
        ["red", "green", "blue", "black"][index % 4],
        12 + 4 * (index % 9),
    );
    let (name, inner) = match index.is_multiple_of(2) {
        true => (
            "circle",
            format!(r#"<circle cx="{place}" cy="32" r="12" fill="{colour}"/>"#),
        ),
        false => (
            "square",
            format!(r#"<rect x="{place}" y="20" width="20" height="20" fill="{colour}"/>"#),
        ),
    };
    (format!("a {colour} {name}"), drawing(&inner))
}

fn config(folder: &Path, seed: u32) -> PathBuf {
    let rows = |name: &str, of: &dyn Fn(usize) -> serde_json::Value| {
        write_rows(folder, name, &(0..24).map(of).collect::<Vec<_>>());
    };
    rows("drawings.jsonl", &|at| {
        let (words, svg) = shape(at);
        json!({"id": format!("d{at}"), "prompt": words, "svg": svg})
    });
    rows("drafts.jsonl", &|at| {
        let ((words, svg), (_, draft)) = (shape(at), shape(at + 1));
        json!({"id": format!("m{at}"), "prompt": words, "svg": svg, "draft": draft})
    });
    rows("captions.jsonl", &|at| {
        let (words, svg) = shape(at);
        json!({"id": format!("t{at}"), "prompt": "say what it shows", "draft": svg, "text": words})
    });
    let text = TEXT
        .replace("TOKENIZER", TOKENIZER)
        .replace("seed: 3", &format!("seed: {seed}"));
    write(folder, "three.yaml", &text)
}

/// The folders of two finished runs, of one config with two seeds; made once.
pub fn runs() -> &'static [PathBuf; 2] {
    static RUNS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    RUNS.get_or_init(|| {
        [3, 4].map(|seed| {
            let folder = shared_scratch(&format!("three-tasks-{seed}"));
            let config = config(&folder, seed);
            let run = folder.join(format!("seed-{seed}"));
            let mut command = program();
            told(command.arg("train").arg(&config).arg("--run-dir").arg(&run)).fine();
            run
        })
    })
}
