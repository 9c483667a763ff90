//! A run of two stages that takes seconds: SFT from short references to long ones, then GRPO with KL,
//! entropy and several updates, whose rewards choose the next prompts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tempfile::TempDir;

/// Rows of metrics.jsonl: each stage has its steps and two evaluations of two sets.
pub const ROWS: usize = 6 + 4 + 2 * 4;

/// Completions end at the digit 1 or are truncated, which the rubric tells apart: even a network
/// that writes no SVG has advantages.
fn config() -> String {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart_tokenizer");
    format!(
        "name: tiny
threads: 1
model:
  tokenizer: {tokenizer:?}
  init: {{architecture: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8}}
data:
  sources:
    shapes: {{format: shapes, task: draw, count: 200, held_out: 8, teacher_noise: {{}}}}
tasks:
  draw:
    type: text_to_svg
    completion: {{format: svg}}
    render: {{canvas: reference, size: 32}}
    rubric:
      truncated: -1.0
      rewards: [{{type: ssim, window_size: 7}}]
stages:
  - name: sft
    algorithm: sft
    steps: 6
    batch: {{size: 4}}
    curriculum: {{order: {{type: staged, buckets: 2, draws: [9, 9]}}}}
    optimizer: {{learning_rate: 2.0e-3, schedule: {{type: cosine}}, warmup: 0.3}}
    samples: {{every: 2}}
    eval: {{prompts: 4, max_new_tokens: 16}}
    checkpoint: {{every: 2}}
  - name: rl
    algorithm: grpo
    steps: 4
    batch: {{size: 3, micro_tokens: 64}}
    curriculum: {{order: {{type: observed, buckets: 3, temperature: 0.1}}}}
    rollout: {{group_size: 4, max_new_tokens: 16, stop: [\"1\"], slots: 5}}
    kl: {{coefficient: 0.05}}
    loss: {{entropy: 0.01, updates: 2, denominator: recomputed}}
    optimizer: {{learning_rate: 1.0e-3}}
    eval: {{prompts: 4, samples: 2}}
    checkpoint: {{every: 2}}
"
    )
}

/// A folder with the config and a run folder.
pub struct Tiny {
    folder: TempDir,
}

impl Tiny {
    pub fn new() -> Self {
        Self::of(&config())
    }

    /// The run with a tiny encoder's reward in place of pixels'.
    pub fn encoded() -> Self {
        let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/encoders/dinov2");
        let encoders = format!("encoders:\n  dino: {{path: {encoder:?}, batch: 3}}\ntasks:");
        let text = config()
            .replace("tasks:", &encoders)
            .replace("type: ssim, window_size: 7", "type: dino, encoder: dino");
        assert!(text.contains("encoder: dino") && text.contains("batch: 3}"));
        Self::of(&text)
    }

    /// The run with six steps of GRPO whose batches are sampled as far ahead.
    pub fn ahead(staleness: usize) -> Self {
        let text = config().replace("steps: 4\n", "steps: 6\n").replace(
            "group_size: 4,",
            &format!("max_staleness: {staleness}, group_size: 4,"),
        );
        assert!(text.contains("max_staleness") && text.contains("steps: 6\n    batch: {size: 3"));
        Self::of(&text)
    }

    /// The run with evaluations of SFT that take a good while: an untrained policy ends one token in five
    /// hundred.
    pub fn slow_to_evaluate() -> Self {
        let text = config().replace(
            "eval: {prompts: 4, max_new_tokens: 16}",
            "eval: {prompts: 4, max_new_tokens: 3000}",
        );
        assert!(text.contains("max_new_tokens: 3000"));
        Self::of(&text)
    }

    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tiny.yaml"), text).unwrap();
        Self { folder }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("tiny.yaml")
    }

    pub fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_svgrl"));
        command
            .args(["train", "-q"])
            .arg(self.config())
            .arg("--run-dir")
            .arg(self.run_folder());
        command.env_remove("WORLD_SIZE").stdout(Stdio::null());
        command
    }

    /// Starts the run in the background.
    pub fn start(&self) -> Child {
        self.command().stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs to the end.
    pub fn finish(&self) {
        let output = self.command().output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
    }

    /// Number of whole rows in metrics.jsonl so far.
    pub fn lines(&self) -> usize {
        let text = std::fs::read(self.run_folder().join("metrics.jsonl")).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Steps of a stage that have a row of metrics, in the order of the file.
    pub fn trained(&self, stage: &str) -> Vec<u64> {
        let text = std::fs::read_to_string(self.run_folder().join("metrics.jsonl")).unwrap();
        let rows = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let trained =
            rows.filter(|row| row["stage"] == stage && row.get("optim/grad_norm").is_some());
        trained.filter_map(|row| row["step"].as_u64()).collect()
    }

    /// The newest checkpoint of a stage by its name.
    pub fn newest(&self, stage: &str) -> PathBuf {
        let folder = self.run_folder().join("checkpoints").join(stage);
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        entries.map(|entry| entry.path()).max().unwrap()
    }

    /// Whether a checkpoint is being written aside.
    pub fn is_writing_checkpoint(&self) -> bool {
        let stages = std::fs::read_dir(self.run_folder().join("checkpoints"))
            .into_iter()
            .flatten()
            .flatten();
        stages
            .flat_map(|stage| std::fs::read_dir(stage.path()))
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with('.'))
    }

    pub fn outcome(&self) -> Outcome {
        let run = self.run_folder();
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let mut rows: Vec<Map<String, Value>> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for row in &mut rows {
            row.retain(|key, _| {
                !(key == "time"
                    || key.starts_with("time/")
                    || key.starts_with("perf/")
                    || key.contains("svg/render_ms"))
            });
        }
        let mut samples = BTreeMap::new();
        let mut open = vec![run.join("samples")];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).unwrap();
                open.extend(entries.map(|entry| entry.unwrap().path()));
                continue;
            }
            let name = path.strip_prefix(&run).unwrap().to_string_lossy();
            let text = std::fs::read_to_string(&path).unwrap();
            samples.insert(name.into_owned(), text);
        }
        let weights = ["sft", "rl"].map(|stage| {
            std::fs::read(run.join(format!("checkpoints/{stage}/final/model.safetensors"))).unwrap()
        });
        Outcome {
            rows,
            samples,
            weights,
        }
    }
}

/// What was said on standard error.
pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `moment` comes or the process has ended.
pub fn wait_for(child: &mut Child, moment: impl Fn() -> bool) {
    let started = Instant::now();
    while !moment() && child.try_wait().unwrap().is_none() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "the moment never came"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Everything of a finished run that must not depend on interruptions.
pub struct Outcome {
    rows: Vec<Map<String, Value>>,
    samples: BTreeMap<String, String>,
    weights: [Vec<u8>; 2],
}

impl Outcome {
    /// The run that is never interrupted.
    pub fn whole() -> &'static Self {
        static WHOLE: OnceLock<Outcome> = OnceLock::new();
        WHOLE.get_or_init(|| {
            let tiny = Tiny::new();
            tiny.finish();
            let whole = tiny.outcome();
            assert_eq!(whole.rows.len(), ROWS);
            let learns = |row: &Map<String, Value>| {
                row.get("optim/grad_norm")
                    .is_none_or(|norm| norm.as_f64() > Some(0.0))
            };
            assert!(whole.rows.iter().all(learns), "{:#?}", whole.rows);
            assert!(whole.rows.iter().any(|row| {
                row.get("reward/total/std")
                    .is_some_and(|std| std.as_f64() > Some(0.0))
            }));
            let key = |stage: &str, key: &str| -> Vec<f64> {
                let of_stage = whole.rows.iter().filter(|row| row["stage"] == stage);
                of_stage.filter_map(|row| row.get(key)?.as_f64()).collect()
            };
            // Draws 1 to 9, 10 to 18, and all rows after them.
            let buckets = key("sft", "data/draw/bucket/mean");
            assert_eq!(buckets, [1.0, 1.0, 1.75, 2.0, 2.0], "{:#?}", whole.rows);
            let lengths = key("sft", "data/draw/reference_length/mean");
            assert!(lengths[1] < lengths[3], "{lengths:?}");
            let spreads = [1, 2, 3].map(|bucket| key("rl", &format!("data/draw/spread/{bucket}")));
            let mut all = spreads.concat();
            all.sort_by(f64::total_cmp);
            all.dedup();
            assert!(all.len() > 3, "rewards choose nothing: {spreads:?}");
            assert_ne!(whole.weights[0], whole.weights[1]);
            whole
        })
    }

    /// Leaves out the evaluation behind a step.
    pub fn forget_evaluation(&mut self, stage: &str, step: u64) {
        let made = |row: &Map<String, Value>| {
            let here = row["stage"] == stage && row["step"] == step;
            here && row.keys().any(|key| key.starts_with("eval/"))
        };
        assert!(self.rows.iter().any(made));
        self.rows.retain(|row| !made(row));
        let (folder, file) = (
            format!("samples/{stage}/eval/"),
            format!("step_{step:06}.jsonl"),
        );
        self.samples
            .retain(|name, _| !(name.starts_with(&folder) && name.ends_with(&file)));
    }

    /// The row of metrics of a training step.
    pub fn step(&self, stage: &str, step: u64) -> &Map<String, Value> {
        let is_step = |row: &&Map<String, Value>| {
            let here = row["stage"] == stage && row["step"] == step;
            here && row.contains_key("optim/grad_norm")
        };
        self.rows.iter().find(is_step).unwrap()
    }

    /// Asserts that `self` is the run that was never interrupted.
    pub fn assert_whole(&self, how: &str) {
        self.assert_same(Self::whole(), how);
    }

    /// Asserts that `self` is the run `whole`.
    pub fn assert_same(&self, whole: &Self, how: &str) {
        for (got, want) in self.rows.iter().zip(&whole.rows) {
            assert_eq!(got, want, "{how}");
        }
        assert_eq!(self.rows.len(), whole.rows.len(), "{how}");
        assert!(self.samples == whole.samples, "{how}: samples differ");
        assert!(self.weights == whole.weights, "{how}: weights differ");
    }
}
