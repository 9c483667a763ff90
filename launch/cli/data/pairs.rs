//! `svgrl data pairs`: preference pairs made of a policy's completions.

use std::path::PathBuf;

use trainer::config::{PairsConfig, StageConfig};
use trainer::{PairsJob, make_pairs};

use crate::cli::config::load;
use crate::cli::{CliFailure, SharedFlags};
use crate::progress::Bar;

/// `svgrl data pairs`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Samples candidates of the prompts of a config's sources and scores them; of each prompt the best and the
worst become a pair. What a stage of the config says of its `pairs` is taken over (the first one that has
any), and these flags beat it. The rows hold every candidate with its scores, and are data of `format: dpo`
and of TRL. An interrupted making goes on when the same command is run again.

Examples:
  svgrl data pairs --config introsvg.yaml --model runs/sft/checkpoints/sft/final --out pairs.jsonl
  svgrl data pairs --config my.yaml --model DIR --out pairs.jsonl --rubric draw --candidates 8 --min-margin 0.05")]
pub struct Args {
    /// The config whose sources are asked and whose tasks score.
    #[arg(long, value_name = "FILE.yaml")]
    config: PathBuf,
    /// The policy's folder in Hugging Face layout.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The file of pairs.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// Completions of each prompt, at least 2.
    #[arg(long, value_name = "K")]
    candidates: Option<usize>,
    /// Prompts that are drawn; 0: as many as there are rows to train on.
    #[arg(long, value_name = "N")]
    prompts: Option<usize>,
    /// The task whose rubric scores, in the place of the rows' own and of a judge.
    #[arg(long, value_name = "TASK")]
    rubric: Option<String>,
    /// The smallest difference of scores that makes a pair.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    min_margin: Option<f64>,
    /// Divides the logits when candidates are sampled.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Longest candidate, in tokens.
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Overrides of the config, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Args {
    /// The options that the flags make of a stage's.
    fn pairs(&self, base: Option<&PairsConfig>) -> PairsConfig {
        let mut pairs = base.cloned().unwrap_or_default();
        pairs.candidates = self.candidates.unwrap_or(pairs.candidates);
        pairs.prompts = self.prompts.unwrap_or(pairs.prompts);
        pairs.min_margin = self.min_margin.unwrap_or(pairs.min_margin);
        let rollout = &mut pairs.rollout;
        rollout.temperature = self.temperature.unwrap_or(rollout.temperature);
        rollout.max_new_tokens = self.max_new_tokens.unwrap_or(rollout.max_new_tokens);
        if let Some(task) = &self.rubric {
            pairs.rubric = Some(task.clone());
            pairs.judge = None;
        }
        pairs
    }
}

/// What is wrong with a key, said of the flag of its name.
fn flag_failure(error: &str) -> CliFailure {
    let (key, rule) = error.split_once(": ").unwrap_or((error, ""));
    let flag = key.trim_start_matches("rollout.").replace('_', "-");
    CliFailure::input(format!("--{flag}: {rule}"))
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let mut loaded = load(&args.config, &args.set, shared)?;
    let stages = &loaded.config.stages;
    let own = |stage: &&StageConfig| stage.algorithm.options().pairs().is_some();
    let stage = stages.iter().find(own).cloned();
    let base = stage
        .as_ref()
        .and_then(|stage| stage.algorithm.options().pairs());
    let pairs = args.pairs(base);
    loaded
        .config
        .check_pairs(&pairs)
        .map_err(|error| flag_failure(&error))?;
    // What other stages ask of rows is none of a making's business.
    loaded.config.stages = stage.iter().cloned().collect();
    let device = loaded.config.device.resolve(0).map_err(CliFailure::input)?;
    let job = PairsJob {
        config: &loaded.config,
        stage: stage.as_ref(),
        pairs: &pairs,
        model: &args.model,
        out: &args.out,
        device,
    };
    let mut bar: Option<(Bar, u64)> = None;
    let counts = make_pairs(&job, &mut |done, all| {
        let (bar, before) = bar.get_or_insert_with(|| (Bar::new("prompts", all, shared.quiet), 0));
        bar.advance(done - *before);
        *before = done;
        if done == all {
            bar.finish();
        }
    })
    .map_err(|error| loaded.failure(error))?;
    if !shared.quiet {
        println!("{counts}");
    }
    match counts.pairs {
        0 => Err(CliFailure::input(format!(
            "{}: no prompt gave a pair: {counts}",
            args.out.display()
        ))),
        _ => Ok(()),
    }
}
