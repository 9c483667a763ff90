//! `svgrl eval CONFIG`: a config's held-out evaluation of a checkpoint, alone.

use std::path::Path;
use std::time::Duration;

use trainer::{CheckpointEvaluation, CheckpointScores, Interrupt, evaluate_checkpoint};

use super::super::{CliFailure, SharedFlags, config};
use crate::telemetry;

/// What is evaluated, and how.
pub struct HeldOutArgs<'a> {
    /// A config: its held-out rows, tasks and `eval` section count.
    pub config: &'a Path,
    /// A checkpoint of a run, or any policy's folder.
    pub checkpoint: &'a Path,
    /// The folder to write: scores.json, and items.jsonl with every completion.
    pub out: &'a Path,
    /// The stage whose `eval` section counts; default: the checkpoint's own, else the last one that evaluates.
    pub stage: Option<&'a str>,
    /// Overrides, as for `train`.
    pub set: &'a [String],
}

/// Runs the command; the exit status of an evaluation that was made, or stopped by a signal.
pub fn run(args: &HeldOutArgs, shared: &SharedFlags) -> Result<u8, CliFailure> {
    if !args.config.exists() {
        return Err(CliFailure::input(format!(
            "{}: there is no such config",
            args.config.display()
        )));
    }
    let loaded = config::load(args.config, args.set, shared)?;
    let config = &loaded.config;
    let device = config.device.resolve(0).map_err(CliFailure::input)?;
    let interrupt = Interrupt::listen(Duration::ZERO)?;
    telemetry::start_command(shared.verbosity())?;
    trainer::threads(config.threads);
    let evaluation = CheckpointEvaluation {
        config,
        checkpoint: args.checkpoint,
        stage: args.stage,
        device,
        interrupt: &interrupt,
    };
    let scores =
        evaluate_checkpoint(&evaluation, args.out).map_err(|error| loaded.failure(error))?;
    let Some(scores) = scores else {
        return Ok(u8::try_from(128 + interrupt.signal()).unwrap_or(1));
    };
    if !shared.quiet {
        print!("{}", table(&scores, args.out));
    }
    Ok(0)
}

/// The scores for people, a line for each metric.
fn table(scores: &CheckpointScores, out: &Path) -> String {
    let mut text = format!("{} ({})\n", scores.checkpoint, scores.stage);
    for (set, metrics) in &scores.sets {
        for (name, value) in metrics.as_object().into_iter().flatten() {
            let value = value.as_f64().unwrap_or(f64::NAN);
            text.push_str(&format!("  {set:<16} {name:<44} {value:>10.4}\n"));
        }
    }
    text.push_str(&format!("written: {}\n", out.join("scores.json").display()));
    text
}
