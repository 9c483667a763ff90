//! One JSON object a step for machines: names are house-wide, declared in [`NAMES`].

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::TrainError;
use crate::tensorboard::{EventLog, Scalars};

/// The metrics of one step, in the order they were set.
pub type Metrics = IndexMap<String, f64>;

/// Every metric with its meaning; `<..>` stands for the user's names.
pub const NAMES: &[(&str, &str)] = &[
    (
        "reward/total/mean",
        "mean total reward of the step's completions",
    ),
    (
        "reward/total/std",
        "its standard deviation over all completions",
    ),
    ("reward/<part>/mean", "mean of one reward before its weight"),
    (
        "reward/<task>/total/mean",
        "mean total reward of one task's completions",
    ),
    (
        "reward/<task>/<part>/mean",
        "mean of one reward within one task",
    ),
    (
        "metric/<metric>/mean",
        "mean of one of the tasks' metrics, which no total holds, over the rows it was measured on",
    ),
    ("metric/<task>/<metric>/mean", "the same within one task"),
    (
        "reward/zero_spread_frac",
        "share of groups whose rewards are all equal",
    ),
    (
        "sft/loss",
        "mean negative log-probability of the targets' tokens, natural log",
    ),
    (
        "svg/valid_frac",
        "share of completions of the asked form whose SVG renders",
    ),
    (
        "svg/deadline_hits",
        "completions whose rendering was ended by the deadline",
    ),
    (
        "svg/render_ms/mean",
        "mean milliseconds spent rendering a completion",
    ),
    ("completion/tokens/mean", "mean completion length"),
    ("completion/tokens/max", "longest completion"),
    (
        "completion/truncated_frac",
        "share of completions that reached the maximum length",
    ),
    (
        "policy/loss",
        "the policy loss, without KL and entropy terms",
    ),
    (
        "policy/entropy",
        "mean entropy of the policy's next-token distributions, nats",
    ),
    (
        "policy/kl_ref",
        "estimated KL divergence to the reference policy per token",
    ),
    (
        "policy/kl_sampler",
        "k3 estimate of the gap between sampler and learner per token",
    ),
    ("policy/ratio_mean", "mean importance ratio before clipping"),
    ("policy/clip_low_frac", "share of tokens clipped from below"),
    (
        "policy/clip_high_frac",
        "share of tokens clipped from above",
    ),
    ("optim/lr", "learning rate"),
    ("optim/grad_norm", "global gradient norm before clipping"),
    (
        "optim/skipped",
        "updates refused because loss or gradient was not finite",
    ),
    (
        "time/<phase>_s",
        "seconds: generate, score_exposed, forward_backward, reduce, optim, step",
    ),
    (
        "perf/tokens_per_s",
        "tokens sampled (GRPO) or learnt from (SFT) per second of the step",
    ),
    ("perf/rollouts_per_s", "completions per second of the step"),
    (
        "perf/mfu",
        "model FLOPs of this rank's learning over what its device does at most in time/forward_backward_s",
    ),
    (
        "perf/pictures",
        "pictures that went through this rank's vision tower in the step, for sampling and learning",
    ),
    (
        "perf/prefills",
        "prompts that this rank ran for sampling: one a group",
    ),
    (
        "perf/peak_memory_gib",
        "largest memory so far: the process's, or the GPU allocator's",
    ),
    ("progress/step", "steps of the stage done"),
    ("progress/prompts", "examples drawn in the stage"),
    (
        "progress/tokens",
        "completion tokens learnt from in the stage",
    ),
    (
        "data/long_prompts",
        "prompts left out for their length in this step",
    ),
    (
        "data/<task>/reference_length/mean",
        "mean characters of the references of the step's prompts, as the curriculum measures them",
    ),
    (
        "data/<task>/bucket/mean",
        "mean number, from 1, of the curriculum's buckets that the step's prompts come from",
    ),
    (
        "data/<task>/spread/<bucket>",
        "what the curriculum `observed` knows of a bucket: the running mean of its groups' spread of reward",
    ),
    (
        "judge/asked",
        "completions that the judges of all ranks were asked about since the run was started or resumed",
    ),
    ("judge/failed", "of them, those that got the failure value"),
    ("judge/cost", "their price so far"),
    (
        "eval/<set>/<metric>",
        "the metric on held-out prompts, in a row of its own",
    ),
];

/// [`NAMES`] in Markdown, the end of configs/REFERENCE.md.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "\n## Metrics\n\nWhat a row of metrics.jsonl may hold beside `stage`, `step` and `time` (Unix seconds); `<..>` stands for a name of your own.\n\n| metric | meaning |\n|---|---|\n",
    );
    for (name, meaning) in NAMES {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    out
}

/// `metrics.jsonl` and the TensorBoard events of a run folder.
pub struct MetricsFile {
    file: File,
    events: EventLog,
}

impl MetricsFile {
    /// Opens the file for appending.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(run: &Path) -> Result<Self, TrainError> {
        let path = path(run);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(TrainError::io(&path))?;
        Ok(Self {
            file,
            events: EventLog::new(run.join("tensorboard")),
        })
    }

    /// Appends one row.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&mut self, stage: &str, step: u64, metrics: &Metrics) -> Result<(), TrainError> {
        let mut row = Map::new();
        row.insert("stage".into(), json!(stage));
        row.insert("step".into(), json!(step));
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |now| now.as_secs_f64());
        row.insert("time".into(), json!(time));
        let finite = || metrics.iter().filter(|(_, value)| value.is_finite());
        row.extend(finite().map(|(name, value)| (name.clone(), json!(value))));
        let values = finite()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        self.events
            .write(stage, &Scalars { step, time, values })
            .map_err(TrainError::io("tensorboard"))?;
        let mut line = Value::Object(row).to_string();
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(TrainError::io("metrics.jsonl"))
    }
}

fn path(run: &Path) -> PathBuf {
    run.join("metrics.jsonl")
}

/// Which rows a run's files keep: asked with stage, step, and whether the row is an evaluation's.
pub type Keep<'a> = dyn Fn(&str, u64, bool) -> bool + 'a;

/// Whether a metric of this name stands in an evaluation's row.
pub fn is_evaluation(name: &str) -> bool {
    name.starts_with("eval/")
}

/// Cuts the file to the rows that `keep` keeps; a last line cut short by a kill goes too.
///
/// # Errors
/// Whatever the file system says.
pub fn cut(run: &Path, keep: &Keep) -> Result<(), TrainError> {
    cut_lines(&path(run), keep)
}

/// [`cut`] for any file of JSON rows with `stage` and `step`.
pub(crate) fn cut_lines(path: &Path, keep: &Keep) -> Result<(), TrainError> {
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read(path).map_err(TrainError::io(path))?;
    let text = String::from_utf8_lossy(&text);
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter(|line| {
            let row: Option<Value> = serde_json::from_str(line).ok();
            row.is_some_and(|row| match (row["stage"].as_str(), row["step"].as_u64()) {
                (Some(stage), Some(step)) => {
                    let names = row.as_object().into_iter().flat_map(Map::keys);
                    keep(
                        stage,
                        step,
                        names.into_iter().any(|name| is_evaluation(name)),
                    )
                }
                _ => false,
            })
        })
        .collect();
    crate::files::write_whole(path, kept.as_bytes())
}
