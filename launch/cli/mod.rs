//! Commands and the flags they share.

mod bench;
mod config;
mod data;
#[cfg(test)]
mod documented_tests;
mod embed;
mod eval;
mod export;
mod extend_tokens;
mod failure;
mod generate;
mod logprobs;
mod merge;
mod panics;
mod plan;
mod refine;
mod render;
mod report;
mod reward;
mod rows;
mod samples;
mod serve;
mod shared;
mod shell;
mod train;
mod train_progress;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use failure::{CliFailure, SMALLER};
pub use shared::SharedFlags;

use crate::spawn;

/// Reinforcement learning for language and vision-language models that write SVG.
#[derive(Debug, Parser)]
#[command(name = "svgrl", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    shared: SharedFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a config's stages in order, or continue a run.
    Train(train::Args),
    /// What a run would do and need: memory by part, disk, on this or other hardware.
    Plan(plan::Args),
    /// Validate a config.
    Check(config::CheckArgs),
    /// Print the reference of the config's keys in Markdown.
    #[command(after_help = "Example:\n  svgrl reference > configs/REFERENCE.md")]
    Reference,
    /// Print a JSON Schema of the config for editors.
    #[command(after_help = "Example:\n  svgrl schema > svgrl.schema.json")]
    Schema,
    /// Sample completions of prompts.
    Generate(generate::Args),
    /// Log-probabilities of given completions.
    Logprobs(logprobs::Args),
    /// Features of pictures or texts by an encoder.
    Embed(embed::Args),
    /// Judge predictions by a benchmark or a checkpoint by its config, compare results.
    Eval(eval::Args),
    /// Fold a LoRA checkpoint into its base: a plain model folder.
    Merge(merge::Args),
    /// Add SVG tokens to a model folder.
    ExtendTokens(extend_tokens::Args),
    /// Prepare SVG corpora, look at a config's data.
    Data(data::Args),
    /// Draw, criticise and correct in rounds, with one policy in three roles.
    Refine(refine::Args),
    /// Render SVG files to PNG.
    Render(render::Args),
    /// Score completions offline with a config's rewards.
    Reward(reward::Args),
    /// Score completions over HTTP, for other trainers or another machine's run.
    ServeRewards(serve::Args),
    /// Write the report of a run, or of several side by side, as one HTML file, or serve it while they go on.
    Report(report::Args),
    /// Follow a run in the terminal.
    Watch(watch::Args),
    /// Write a run's samples as a Parquet table.
    Samples(samples::Args),
    /// Replay a run's metrics into another tracker: W&B, MLflow, Trackio.
    Export(export::Args),
    /// Start several ranks of a command on this machine.
    Launch(spawn::Args),
    /// Measure this machine.
    Bench(bench::Args),
    /// Print what completes commands and flags in a shell.
    Completions(shell::CompletionsArgs),
    /// Write manual pages, one a command.
    Man(shell::ManArgs),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    panics::install();
    match panics::told(|| dispatch(&cli)) {
        Ok(code) => match crate::console::failure() {
            Some(full) => {
                eprintln!("error: {full}");
                ExitCode::FAILURE
            }
            None => ExitCode::from(code),
        },
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.code()
        }
    }
}

/// Says what is wrong with the command line (or what its help is), and the exit status for it.
fn refused(error: &clap::Error) -> ExitCode {
    // Whoever closed the output does not want it.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn dispatch(cli: &Cli) -> Result<u8, CliFailure> {
    torch_ext::disable_reduced_precision().map_err(CliFailure::other)?;
    let shared = &cli.shared;
    match &cli.command {
        Command::Train(args) => train::run(args, shared),
        Command::Plan(args) => plan::run(args, shared).map(|()| 0),
        Command::Check(args) => config::check(args, shared).map(|()| 0),
        Command::Reference => config::reference().map(|()| 0),
        Command::Schema => config::schema().map(|()| 0),
        Command::Generate(args) => generate::run(args, shared).map(|()| 0),
        Command::Logprobs(args) => logprobs::run(args, shared).map(|()| 0),
        Command::Embed(args) => embed::run(args, shared).map(|()| 0),
        Command::Eval(args) => eval::run(args, shared),
        Command::Merge(args) => merge::run(args, shared).map(|()| 0),
        Command::ExtendTokens(args) => extend_tokens::run(args, shared).map(|()| 0),
        Command::Data(args) => data::run(args, shared).map(|()| 0),
        Command::Refine(args) => refine::run(args, shared).map(|()| 0),
        Command::Render(args) => render::run(args).map_err(CliFailure::from),
        Command::Reward(args) => reward::run(args, shared).map(|()| 0),
        Command::ServeRewards(args) => serve::run(args, shared).map(|()| 0),
        Command::Report(args) => report::run(args).map(|()| 0),
        Command::Watch(args) => watch::run(args).map(|()| 0),
        Command::Samples(args) => samples::run(args).map(|()| 0),
        Command::Export(args) => export::run(args).map(|()| 0),
        Command::Launch(args) => spawn::run(args).map_err(CliFailure::from),
        Command::Bench(args) => bench::run(args, shared).map(|()| 0),
        Command::Completions(args) => {
            shell::completions(args, Cli::command());
            Ok(0)
        }
        Command::Man(args) => shell::man(args, Cli::command()).map(|()| 0),
    }
}
