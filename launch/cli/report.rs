//! `svgrl report`: a run folder as one HTML file.

use std::path::PathBuf;

use super::CliFailure;
use crate::report;

/// `svgrl report`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  svgrl report runs/quickstart --out quickstart.html")]
pub struct Args {
    /// The run folder.
    run: PathBuf,
    /// The HTML file; default: report.html in the run folder.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliFailure> {
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| args.run.join("report.html"));
    report::write_rendered(&args.run, &out).map_err(CliFailure::input)?;
    println!("{}", out.display());
    Ok(())
}
