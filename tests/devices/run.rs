//! A GRPO run of seconds whose policy draws: it is first taught three drawings, on the CPU, once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::gpu::Gpu;
use crate::cli::program::{Told, program, rows, shared_scratch, told, write, write_rows};
use crate::support::fixture;

const CONFIG: &str = "\
name: drawn
threads: 1
model: MODEL
data: {sources: {rows: {format: jsonl, path: rows.jsonl, task: draw}}}
encoders: {dino: {path: ENCODER, batch: 3}}
tasks:
  draw:
    type: text_to_svg
    completion: {format: svg}
    render: {canvas: reference, size: 32}
    rubric: {rewards: [{type: dino, encoder: dino}]}
stages:
";
const FRESH: &str = "{tokenizer: TOKENIZER, init: {architecture: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8}}";
const SFT: &str = "  - {name: sft, algorithm: sft, steps: 80, batch: {size: 6}, optimizer: {learning_rate: 2.0e-2}}
";
const GRPO: &str = "  - name: rl
    algorithm: grpo
    steps: 4
    batch: {size: 2, micro_tokens: 64}
    rollout: {group_size: 6, max_new_tokens: 64, slots: 5}
    kl: {coefficient: 0.05}
    loss: {entropy: 0.01, updates: 2, denominator: recomputed}
    # Adam's own epsilon makes a whole step of the rounding of a gradient that is zero.
    optimizer: {learning_rate: 1.0e-3, epsilon: 1.0e-3}
    checkpoint: {every: 2}
";

/// The folder of rl.yaml and of the policy that it goes on from.
fn taught() -> &'static Path {
    static TAUGHT: OnceLock<PathBuf> = OnceLock::new();
    TAUGHT.get_or_init(|| {
        let folder = shared_scratch("devices_taught");
        let config = |model: &str, stage: &str| {
            let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart_tokenizer");
            let encoder = fixture("parity/encoders/dinov2");
            let text = CONFIG.replace("MODEL", model) + stage;
            text.replace("TOKENIZER", &format!("{tokenizer:?}"))
                .replace("ENCODER", &format!("{encoder:?}"))
        };
        write(&folder, "sft.yaml", &config(FRESH, SFT));
        write(&folder, "rl.yaml", &config("{path: sft/checkpoints/sft/final}", GRPO));
        let drawn = |prompt: &str, shape: &str| {
            json!({"prompt": prompt, "svg": format!("<svg viewBox=\"0 0 64 64\">{shape}</svg>")})
        };
        let data = [
            drawn("a disc", "<circle cx=\"32\" cy=\"32\" r=\"16\" fill=\"red\"/>"),
            drawn("a box", "<rect x=\"8\" y=\"8\" width=\"32\" height=\"32\" fill=\"blue\"/>"),
            drawn("a bar", "<rect x=\"8\" y=\"8\" width=\"48\" height=\"8\" fill=\"red\"/>"),
        ];
        write_rows(&folder, "rows.jsonl", &data);
        train(program(), &folder, "sft.yaml", "sft", &["device=cpu"]).fine();
        folder
    })
}

fn train(
    mut program: std::process::Command,
    folder: &Path,
    config: &str,
    run: &str,
    set: &[&str],
) -> Told {
    let command = program.args(["train", "-q"]).arg(folder.join(config));
    command.arg("--run-dir").arg(folder.join(run));
    for set in set {
        command.args(["--set", set]);
    }
    told(command)
}

/// A run's folder, on `gpu` or else as `set` says, made or gone on with; what a pretended GPU reports
/// of its memory is `report` there.
pub fn drawn(run: &str, gpu: Option<&Gpu>, set: &[&str]) -> PathBuf {
    let folder = taught();
    let mut command = gpu.map_or_else(program, Gpu::program);
    command.env("PRETEND_GPU_REPORT", folder.join(format!("{run}.report")));
    command.env("PRETEND_GPU_COUNTS", folder.join(format!("{run}.counts")));
    train(command, folder, "rl.yaml", run, set).fine();
    folder.join(run)
}

/// A new run on pretended GPUs of `room` bytes each.
pub fn tried(run: &str, room: u64, set: &[&str]) -> Told {
    let mut command = Gpu::here().program();
    command.env("PRETEND_GPU_BYTES", room.to_string());
    let _ = std::fs::remove_dir_all(taught().join(run));
    train(command, taught(), "rl.yaml", run, set)
}

/// The run on the CPU.
pub fn on_the_cpu() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| drawn("cpu", None, &["device=cpu"]))
}

/// How often each pretended device's last byte was given back while `run` ran.
pub fn emptied(run: &Path) -> Vec<u64> {
    let report = std::fs::read_to_string(run.with_extension("report")).unwrap();
    let number = |line: &str| line.split(' ').nth(1).unwrap().parse().unwrap();
    report.lines().map(number).collect()
}

/// What the pretended GPUs counted while `run` ran, by name.
pub fn counted(run: &Path) -> impl Fn(&str) -> u64 {
    let counts = std::fs::read_to_string(run.with_extension("counts")).unwrap();
    move |name| {
        let lines = counts.lines().filter_map(|line| line.split_once(' '));
        let mut numbers = lines.filter(|line| line.0 == name);
        numbers.next().unwrap().1.parse().unwrap()
    }
}

/// Fails where a number of the runs' metrics is further apart than `tolerance`, relative to the larger
/// or to 1; times and what a step took aside.
#[track_caller]
pub fn alike(run: &Path, other: &Path, tolerance: f64) {
    let (a, b) = (
        rows(&run.join("metrics.jsonl")),
        rows(&other.join("metrics.jsonl")),
    );
    assert_eq!(a.len(), b.len());
    assert!(
        a.iter()
            .any(|row| row["reward/dino/mean"].as_f64() > Some(0.3)),
        "it draws: {a:?}"
    );
    for (a, b) in a.iter().zip(&b) {
        for (key, value) in a.as_object().unwrap() {
            let timed = ["time", "perf/", "svg/render_ms"];
            if timed.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            match (value.as_f64(), b[key].as_f64()) {
                (Some(x), Some(y)) => {
                    let far = (x - y).abs() / x.abs().max(y.abs()).max(1.0);
                    assert!(far <= tolerance, "{key} at step {}: {x} and {y}", a["step"]);
                }
                _ => assert_eq!(value, &b[key], "{key}"),
            }
        }
    }
}

/// The sampled tokens of a run's steps.
pub fn sampled(run: &Path) -> Vec<Value> {
    let mut files: Vec<_> = walk(&run.join("samples"));
    files.sort();
    let rows = files.iter().flat_map(|file| rows(file));
    rows.map(|row| row["token_ids"].clone()).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
