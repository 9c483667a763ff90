//! `svgrl data`: SVG corpora made ready, what a config's sources yield, and data made by a policy.

mod example;
mod inspect;
mod made;
mod pairs;
mod parallel;
mod prepare;
mod stats;

use super::{CliFailure, SharedFlags};

/// `svgrl data`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl data prepare --from icons.jsonl --out prepared
  svgrl data inspect configs/quickstart.yaml
  svgrl data example ctrl-s --out ctrl-s-tiny
  svgrl data pairs --config my.yaml --model DIR --out pairs.jsonl --rubric draw")]
pub struct Args {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum DataCommand {
    /// Normalise, check, filter and split a corpus of SVG.
    Prepare(Box<prepare::Args>),
    /// Sample candidates of a config's prompts and make pairs of the best and the worst.
    Pairs(Box<pairs::Args>),
    /// Sample drawings that are neither good nor hopeless, as drafts for the task of refinement.
    Drafts(Box<made::drafts::Args>),
    /// Have a judge criticise a policy's drawings, as rows for a critic.
    Critiques(Box<made::critiques::Args>),
    /// Rows that correct criticised drawings.
    Corrections(Box<made::corrections::Args>),
    /// Count, measure and show what a config's sources yield.
    Inspect(inspect::Args),
    /// Write a small copy of all that one of the five systems needs, to try it and to see the layout.
    Example(example::Args),
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    match &args.command {
        DataCommand::Prepare(args) => prepare::run(args, shared),
        DataCommand::Pairs(args) => pairs::run(args, shared),
        DataCommand::Drafts(args) => made::drafts::run(args, shared),
        DataCommand::Critiques(args) => made::critiques::run(args, shared),
        DataCommand::Corrections(args) => made::corrections::run(args, shared),
        DataCommand::Inspect(args) => inspect::run(args, shared),
        DataCommand::Example(args) => example::run(args, shared),
    }
}
