//! `svgrl reward`: scores completions offline with a config's rewards.

use std::path::PathBuf;
use std::sync::Arc;

use models::Tokenizer;
use rewards::{Candidate, ImageSource, Reference, Reward, ScoreJob, Scorer, TokenCounter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Failure, Shared, config, rows};

/// `svgrl reward`
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  svgrl reward --config configs/quickstart.yaml --data completions.jsonl --out scores.jsonl"
)]
pub struct Args {
    /// The config whose tasks score.
    #[arg(long, value_name = "CONFIG")]
    config: PathBuf,
    /// Rows `{"id", "task"?, "prompt", "completion", "reference": {"svg"?, "image"?, "text"?}, "truncated"?, "step"?}`.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Rows `{"id", "total", "parts", "valid", "reason", "render_ms"}`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Task of rows that name none; default: the config's first.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Overrides, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Deserialize)]
struct RowIn {
    id: Value,
    task: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    completion: String,
    #[serde(default)]
    reference: Reference,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    step: u64,
}

/// One scored row.
#[derive(Serialize)]
struct RowOut<'a> {
    id: &'a Value,
    total: f64,
    parts: &'a indexmap::IndexMap<String, f64>,
    valid: bool,
    reason: &'a Option<String>,
    render_ms: f64,
}

/// Runs the command.
pub fn run(args: &Args, shared: &Shared) -> Result<(), Failure> {
    let config = config::load(&args.config, &args.set, shared)?.config;
    let tasks = trainer::scoring(&config.tasks);
    let default = match &args.task {
        Some(task) => task.clone(),
        None => tasks.keys().next().cloned().unwrap_or_default(),
    };
    let tokenizer = config
        .model
        .tokenizer_folder()
        .filter(|folder| folder.join("tokenizer.json").exists())
        .map(Tokenizer::read)
        .transpose()?;
    let counter = tokenizer
        .map(|tokenizer| -> TokenCounter { Arc::new(move |text| tokenizer.encode(text).len()) });
    let scorer = Scorer::new(&config.rewards, tasks, counter)?;
    let folder = args.data.parent().map(PathBuf::from).unwrap_or_default();
    let (mut ids, mut jobs) = (Vec::new(), Vec::new());
    for row in rows::read::<RowIn>(&args.data)? {
        let rows::Row { mut value, place } = row;
        if let Some(ImageSource::Path(path)) = &mut value.reference.image {
            *path = folder.join(&*path);
        }
        let task = value.task.unwrap_or_else(|| default.clone());
        scorer
            .check_reference(&task, &value.reference)
            .map_err(|error| Failure::input(format!("{place}: {error}")))?;
        ids.push(value.id);
        jobs.push(ScoreJob {
            key: 0,
            task,
            step: value.step,
            prompt: value.prompt.unwrap_or_default().into(),
            reference: Arc::new(value.reference),
            candidate: Candidate {
                text: value.completion,
                truncated: value.truncated,
            },
        });
    }
    let mut out = rows::Writer::create(&args.out)?;
    for (id, reward) in ids.iter().zip(scorer.score(jobs)) {
        let Reward {
            total,
            parts,
            valid,
            reason,
            render_ms,
            ..
        } = &reward;
        out.write(&RowOut {
            id,
            total: *total,
            parts,
            valid: *valid,
            reason,
            render_ms: *render_ms,
        })?;
    }
    out.finish()
}
