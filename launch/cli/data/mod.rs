//! `svgrl data`: SVG corpora made ready.

mod duplicates;
mod look;
mod prepare;
mod row;
mod tally;
mod write;

use super::{Failure, Shared};

/// `svgrl data`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  svgrl data prepare --from icons.jsonl --out prepared")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Normalise, check, filter and split a corpus of SVG.
    Prepare(Box<prepare::Args>),
}

/// Runs the command.
pub fn run(args: &Args, shared: &Shared) -> Result<(), Failure> {
    match &args.command {
        Command::Prepare(args) => prepare::run(args, shared),
    }
}
