//! `svgrl report`: run folders as one HTML file, or as a page that follows them.

use std::net::{TcpListener, ToSocketAddrs};
use std::path::PathBuf;

use super::CliFailure;
use crate::live::LiveReport;
use crate::report;

/// `svgrl report`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl report runs/quickstart --out quickstart.html
  svgrl report runs/first runs/second --out both.html
  svgrl report runs/quickstart --serve")]
pub struct Args {
    /// The run folders: one, or several side by side, each compared with the first.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The HTML file; default: report.html in the run folder, or comparison.html in the last of several.
    #[arg(long, value_name = "FILE.html", conflicts_with = "serve")]
    out: Option<PathBuf>,
    /// Show a page on this machine that follows the runs, until it is interrupted; writes no file.
    #[arg(long)]
    serve: bool,
    /// Where to serve: a loopback address; port 0 takes a free one.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8710",
        requires = "serve"
    )]
    addr: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliFailure> {
    if args.serve {
        return serve(args);
    }
    let last = args.runs.last().cloned().unwrap_or_default();
    let name = match args.runs.len() {
        1 => "report.html",
        _ => "comparison.html",
    };
    let out = args.out.clone().unwrap_or_else(|| last.join(name));
    report::write_all(&args.runs, &out).map_err(CliFailure::input)?;
    println!("{}", out.display());
    Ok(())
}

fn serve(args: &Args) -> Result<(), CliFailure> {
    let wrong = |said: String| CliFailure::input(format!("--addr {}: {said}", args.addr));
    let found = args.addr.to_socket_addrs();
    let found: Vec<_> = found.map_err(|error| wrong(error.to_string()))?.collect();
    if found.is_empty() || found.iter().any(|address| !address.ip().is_loopback()) {
        return Err(wrong(
            "must be a loopback address (from another machine: ssh -L 8710:127.0.0.1:8710)"
                .to_owned(),
        ));
    }
    let live = LiveReport::new(args.runs.clone()).map_err(CliFailure::input)?;
    let listener = TcpListener::bind(&*found)
        .map_err(|error| CliFailure::other(format!("--addr {}: {error}", args.addr)))?;
    let address = listener.local_addr().map_err(CliFailure::other)?;
    println!(
        "http://{address}/ follows {} (Ctrl-C ends it)",
        names(&args.runs)
    );
    live.run(&listener);
    Ok(())
}

fn names(runs: &[PathBuf]) -> String {
    let names: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
    names.join(", ")
}
