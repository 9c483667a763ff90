//! `svgrl reward`: scores completions offline with a config's rewards.

use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use rewards::{ImageSource, RewardsConfig, ScoreJob, ScoreRow, ScoredRow, Scorer, TokenCounter};
use trainer::config::Config;

use super::{CliFailure, SharedFlags, config, rows};
use crate::telemetry;

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
    /// Rows `{"id", "total", "parts", "valid", "reason", "render_ms"}`, and `metrics` with --metrics; where a judge, an
    /// encoder or a service failed, `total` is null and `unscored` names the parts.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Task of rows that name none; default: the config's first.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Measure the tasks' metrics as well: rows then hold `metrics` beside `parts`.
    #[arg(long)]
    metrics: bool,
    /// Overrides, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The scorer of a config's tasks, with its tokenizer for lengths in tokens where it has one.
pub fn scorer(config: &Config, rewards: &RewardsConfig) -> Result<Scorer, CliFailure> {
    let tokenizer = config
        .model
        .tokenizer_folder()
        .filter(|folder| folder.join("tokenizer.json").exists())
        .map(|_| config.model.read_tokenizer())
        .transpose()?;
    let counter = tokenizer
        .map(|tokenizer| -> TokenCounter { Arc::new(move |text| tokenizer.encode(text).len()) });
    let tasks = trainer::scoring(&config.tasks);
    let device = config.device.resolve(0).map_err(CliFailure::input)?;
    if !config.encoders.is_empty() {
        trainer::threads(config.threads);
    }
    let encoders = config.encoder_set(device);
    Ok(Scorer::with_encoders(rewards, tasks, counter, &encoders)?)
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let config = config::load(&args.config, &args.set, shared)?.config;
    let default = match &args.task {
        Some(task) => task.clone(),
        None => config.tasks.keys().next().cloned().unwrap_or_default(),
    };
    let same = |path: &PathBuf| path.canonicalize().ok();
    if same(&args.out).is_some() && same(&args.out) == same(&args.data) {
        return Err(CliFailure::input(
            "--out: is the file of --data, which would be lost (name another)",
        ));
    }
    telemetry::start_command(shared.verbosity())?;
    let scorer = scorer(&config, &config.rewards)?;
    let folder = args.data.parent().map(PathBuf::from).unwrap_or_default();
    let (mut ids, mut places, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows::read::<ScoreRow>(&args.data, shared.quiet)? {
        let rows::Row { mut value, place } = row;
        if let Some(ImageSource::Path(path)) = &mut value.reference.image {
            *path = folder.join(&*path);
        }
        value.measure = args.metrics;
        let (id, job) = value.into_job(&default);
        ids.push(id);
        places.push(place);
        jobs.push(job);
    }
    // Each may have to be drawn.
    let check = |job: &ScoreJob| scorer.check_reference(&job.task, &job.reference);
    let checked: Vec<_> = jobs.par_iter().with_max_len(1).map(check).collect();
    for (place, usable) in places.iter().zip(checked) {
        if let Err(error) = usable {
            scorer.check()?;
            return Err(CliFailure::input(format!("{place}: {error}")));
        }
    }
    let mut out = rows::RowWriter::create(&args.out)?;
    let rewards = scorer.score(jobs);
    scorer.check()?;
    if let (Some(count), false) = (scorer.judge_count(), shared.quiet) {
        eprintln!(
            "judge: {} asked, {} failed, {} tokens in, {} out, cost {}",
            count.asked, count.failed, count.tokens[0], count.tokens[1], count.cost
        );
    }
    for failed in scorer.failures().iter().filter(|_| !shared.quiet) {
        eprintln!(
            "{}: {} of {} completions could not be scored",
            failed.part,
            failed.count,
            rewards.len()
        );
    }
    for (id, reward) in ids.into_iter().zip(rewards) {
        out.write(&ScoredRow::new(id, reward))?;
    }
    out.finish()
}
