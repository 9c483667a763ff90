//! Commands and the flags they share.

mod bench;
mod config;
mod data;
mod embed;
mod eval;
mod extend_tokens;
mod failure;
mod generate;
mod logprobs;
mod merge;
mod panics;
mod refine;
mod render;
mod report;
mod reward;
mod rows;
mod serve;
mod shared;
mod train;
mod train_progress;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Write a run's report as one HTML file.
    Report(report::Args),
    /// Start several ranks of a command on this machine.
    Launch(spawn::Args),
    /// Measure this machine.
    Bench(bench::Args),
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

/// Commands and flags that the documents promise and that are not built.
const NOT_BUILT: &[(&str, &str)] = &[
    ("plan", "svgrl plan"),
    ("watch", "svgrl watch"),
    ("samples", "svgrl samples"),
    ("export", "svgrl export"),
    ("--learners", "--learners"),
    ("--samplers", "--samplers"),
    ("--serve", "--serve"),
];

/// What of [`NOT_BUILT`] a command line asked for.
fn not_built(error: &clap::Error) -> Option<&'static str> {
    use clap::error::{ContextKind, ContextValue};
    let asked = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg];
    asked.into_iter().find_map(|kind| {
        let Some(ContextValue::String(asked)) = error.get(kind) else {
            return None;
        };
        let word = asked.split(['=', ' ']).next()?;
        let known = NOT_BUILT.iter().find(|(name, _)| *name == word)?;
        Some(known.1)
    })
}

/// Says what is wrong with the command line (or what its help is), and the exit status for it.
fn refused(error: &clap::Error) -> ExitCode {
    if let Some(what) = not_built(error) {
        eprintln!("error: {what}: not built yet");
        return ExitCode::from(2);
    }
    // Whoever closed the output does not want it.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn dispatch(cli: &Cli) -> Result<u8, CliFailure> {
    torch_ext::disable_reduced_precision().map_err(CliFailure::other)?;
    let shared = &cli.shared;
    match &cli.command {
        Command::Train(args) => train::run(args, shared),
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
        Command::Launch(args) => spawn::run(args).map_err(CliFailure::from),
        Command::Bench(args) => bench::run(args, shared).map(|()| 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_is_told_from_what_is_not_known() {
        let asked = |line: &str| {
            let error = Cli::try_parse_from(line.split(' ')).err().unwrap();
            not_built(&error)
        };
        assert_eq!(asked("svgrl watch runs/x"), Some("svgrl watch"));
        for line in ["svgrl report r --serve", "svgrl report r --serve=8000"] {
            assert_eq!(asked(line), Some("--serve"), "{line}");
        }
        for line in [
            "svgrl evil",
            "svgrl data draughts",
            "svgrl train c.yaml --gpu 2",
        ] {
            assert_eq!(asked(line), None, "{line}");
        }
    }
}
