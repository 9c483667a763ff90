//! `svgrl bench`: figures for this machine, with the setup they were taken in.
//!
//! Ratios against peers are made by `benches/compare.py`, which runs this and a peer in turn.

mod pictures;
mod service;
mod stats;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};
use trainer::bench::{
    DecodeBench, DpoBench, Shape, StepBench, StepTimes, decode_rate, dpo_times, step_times,
};
use trainer::config::DpoReference;

use crate::cli::{CliFailure, SharedFlags, rows};
use stats::median;

/// `svgrl bench`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl bench render --data icons.jsonl
  svgrl bench reward --clients 32
  svgrl bench reward --encoders --completions 32
  svgrl bench step --kl 0.04 --json
  svgrl bench step --lengths benches/lengths.json
  svgrl bench dpo --lengths benches/lengths.json --reference policy
  svgrl bench generate --batch 8")]
pub struct Args {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Counted repetitions, after one that is not.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Rows with `svg` to render or score; default: drawings of the built-in source.
    #[arg(long, value_name = "FILE.jsonl")]
    data: Option<PathBuf>,
    /// In `reward`: score with CTRL-S' encoders (DINOv2-base and Long-CLIP-L shapes, random weights) and compare
    /// with their forward time alone.
    #[arg(long)]
    encoders: bool,
    /// In `reward --encoders`: how many completions.
    #[arg(long, default_value_t = 32)]
    completions: usize,
    /// Weight of the KL term in `step`.
    #[arg(long, default_value_t = 0.04)]
    kl: f64,
    /// Completion lengths of `step`, answer lengths of `dpo` (chosen and rejected in turn), a JSON list; default: 128
    /// each.
    #[arg(long, value_name = "FILE.json")]
    lengths: Option<PathBuf>,
    /// In `dpo`: whether the reference policy is computed at each step or its log-probabilities are cached.
    #[arg(long, value_enum, default_value_t = Compared::Policy)]
    reference: Compared,
    /// Sequences decoded at once in `generate`.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Tokens of each sequence in `generate`.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Words of each sequence's prompt in `generate`, in tokens; default: 34.
    #[arg(long, value_name = "TOKENS")]
    prompt: Option<usize>,
    /// In `step`: adapters of this rank learn in place of the weights; 0: all weights learn.
    #[arg(long, value_name = "RANK", default_value_t = 0)]
    lora: i64,
    /// Measure `reward` over HTTP as well, with this many clients at the same time.
    #[arg(long, default_value_t = 0)]
    clients: usize,
    /// The network of `step`, `dpo` and `generate`.
    #[arg(long, value_enum, default_value_t = Shape::Small)]
    model: Shape,
    /// libtorch's threads on the CPU; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Parsing and rendering, beside bare resvg.
    Render,
    /// Scoring of completions against their references.
    Reward,
    /// Decoding.
    Generate,
    /// A whole GRPO step.
    Step,
    /// A whole DPO step.
    Dpo,
    /// A decoded picture of 448 by 448 pixels on its way into a vision tower.
    Preprocess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compared {
    /// The policy's log-probabilities are known before the first step.
    Cached,
    /// The policy computes them.
    Policy,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let threads = trainer::threads(args.threads);
    let device = shared.device()?;
    let measured = match args.what {
        What::Render => render(args)?,
        What::Reward if args.encoders => encoders(args, (shared.kind(), device))?,
        What::Reward => reward(args)?,
        What::Generate => generate(args, (shared.kind(), device))?,
        What::Step => step(args, (shared.kind(), device))?,
        What::Dpo => dpo(args, (shared.kind(), device))?,
        What::Preprocess => pictures::preprocess(args.repeat)?,
    };
    let setup = json!({"device": format!("{device:?}"), "dtype": format!("{:?}", shared.kind()), "threads": threads, "version": env!("CARGO_PKG_VERSION"), "repeat": args.repeat});
    if args.json {
        println!("{}", json!({"setup": setup, "figures": measured}));
        return Ok(());
    }
    println!("setup: {setup}");
    for (name, value) in measured.as_object().into_iter().flatten() {
        println!("{name:<28} {value}");
    }
    Ok(())
}

fn sources(args: &Args) -> Result<Vec<String>, CliFailure> {
    #[derive(serde::Deserialize)]
    struct SvgRow {
        svg: String,
    }
    impl rows::FileRow for SvgRow {
        const KEYS: &'static [&'static [&'static str]] = &[&["svg"]];
    }
    match &args.data {
        Some(path) => Ok(rows::read::<SvgRow>(path, true)?
            .into_iter()
            .map(|row| row.value.svg)
            .collect()),
        None => trainer::bench::shapes(256).map_err(CliFailure::from),
    }
}

fn render(args: &Args) -> Result<Value, CliFailure> {
    let sources = sources(args)?;
    let renderer = || {
        svg::Renderer::new(&svg::WorkerProgram::Installed, Duration::from_secs(5))
            .map_err(CliFailure::other)
    };
    let duration = Duration::from_secs(2 * args.repeat as u64);
    let measured = svg::bench::throughput(renderer()?, &sources, 224, duration);
    let measured = measured.map_err(CliFailure::other)?;
    let isolation = svg::bench::isolation(&renderer()?, &sources, 224, duration);
    let isolation = isolation.map_err(CliFailure::other)?;
    Ok(json!({
        "documents": sources.len(),
        "guarded_per_s": measured.guarded_per_s,
        "bare_resvg_per_s": measured.bare_per_s,
        "ratio": measured.guarded_per_s / measured.bare_per_s,
        "guarded_per_cpu_s": measured.guarded_per_cpu_s,
        "bare_resvg_per_cpu_s": measured.bare_per_cpu_s,
        "cpu_ratio": measured.guarded_per_cpu_s / measured.bare_per_cpu_s,
        "rendered_frac": measured.rendered_frac,
        "worker_frac": isolation.worker_frac,
        "all_in_workers_per_s": isolation.isolated_per_s,
        "all_in_workers_ms_more": 1e3 / isolation.isolated_per_s - 1e3 / isolation.guarded_per_s,
    }))
}

fn reward(args: &Args) -> Result<Value, CliFailure> {
    let sources = sources(args)?;
    if args.clients > 0 {
        return service::measure(&sources, args.clients, args.repeat);
    }
    let (scorer, jobs) = trainer::bench::scoring_jobs(&sources)?;
    let mut best = f64::INFINITY;
    for _ in 0..=args.repeat {
        let started = Instant::now();
        scorer.score(jobs.clone());
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(json!({"completions": jobs.len(), "completions_per_s": jobs.len() as f64 / best}))
}

fn encoders(args: &Args, place: (tch::Kind, tch::Device)) -> Result<Value, CliFailure> {
    let mut sources = sources(args)?;
    sources.truncate(args.completions.max(1));
    let measured = trainer::bench::measure(&sources, args.repeat, place)?;
    serde_json::to_value(measured).map_err(CliFailure::other)
}

fn generate(args: &Args, place: (tch::Kind, tch::Device)) -> Result<Value, CliFailure> {
    if args.batch == 0 || args.tokens == 0 || args.prompt == Some(0) {
        return Err(CliFailure::input(
            "--batch, --tokens, --prompt: must be >= 1",
        ));
    }
    let bench = DecodeBench {
        shape: args.model,
        place,
        batch: args.batch,
        tokens: args.tokens,
        prompt: args.prompt,
    };
    let mut rates = Vec::new();
    for _ in 0..=args.repeat {
        rates.push(decode_rate(&bench)?);
    }
    let counted = &rates[1..];
    let whole: Vec<f64> = counted.iter().map(|rate| rate.tokens_per_s).collect();
    let mut figures = json!({"batch": args.batch, "tokens": args.tokens, "tokens_per_s": whole, "median_tokens_per_s": median(&whole)});
    if place.1.is_cuda() {
        let decode: Vec<f64> = counted
            .iter()
            .map(|rate| rate.decode_tokens_per_s)
            .collect();
        let nodes = counted.iter().map(|rate| rate.graph_nodes).max();
        figures["median_decode_tokens_per_s"] = json!(median(&decode));
        // What one launch of a captured step starts; 0: no graph was captured.
        figures["graph_nodes_per_token_step"] = json!(nodes.unwrap_or(0));
    }
    Ok(figures)
}

/// The lengths that are asked for.
fn lengths(args: &Args) -> Result<Vec<usize>, CliFailure> {
    let Some(path) = &args.lengths else {
        return Ok(vec![128; 64]);
    };
    let wrong =
        |error: &dyn std::fmt::Display| CliFailure::input(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}

fn dpo(args: &Args, place: (tch::Kind, tch::Device)) -> Result<Value, CliFailure> {
    let bench = DpoBench {
        shape: args.model,
        place,
        lengths: lengths(args)?,
        reference: match args.reference {
            Compared::Cached => DpoReference::Cached,
            Compared::Policy => DpoReference::Policy,
        },
    };
    let times = dpo_times(&bench, args.repeat + 1)?;
    let step: Vec<f64> = times[1..].iter().map(|times| times.step).collect();
    Ok(json!({
        "step_s": step,
        "median_step_s": median(&step),
        "peak_memory_gib": trainer::peak_memory_gib(place.1),
    }))
}

fn step(args: &Args, place: (tch::Kind, tch::Device)) -> Result<Value, CliFailure> {
    let bench = StepBench {
        shape: args.model,
        place,
        kl: args.kl,
        lengths: lengths(args)?,
        lora: args.lora,
    };
    let times = step_times(&bench, args.repeat + 1)?;
    let column = |of: fn(&StepTimes) -> f64| -> Vec<f64> { times[1..].iter().map(of).collect() };
    let step = column(|times| times.step);
    Ok(json!({
        "step_s": step,
        "median_step_s": median(&step),
        "median_generate_s": median(&column(|times| times.generate)),
        "median_score_exposed_s": median(&column(|times| times.score_exposed)),
        "median_learn_s": median(&column(|times| times.learn)),
        "learn_tflops": median(&column(|times| times.learn_tflops)),
        "mfu": times[1..].iter().filter_map(|times| times.mfu).next_back(),
        "peak_memory_gib": trainer::peak_memory_gib(place.1),
    }))
}
