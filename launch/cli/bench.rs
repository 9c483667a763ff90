//! `svgrl bench`: figures for this machine.

use super::{Failure, Shared};

/// `svgrl bench`
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to measure.
    what: String,
}

/// Runs the command.
pub fn run(args: &Args, _shared: &Shared) -> Result<(), Failure> {
    Err(Failure::input(format!("bench {}: not built yet", args.what)))
}
