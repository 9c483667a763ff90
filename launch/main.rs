//! The `svgrl` program: one command family per file in `cli`.
//!
//! Exit status 0: done; 2: the user's input is wrong; 1: anything else.

mod cli;
mod openmp;
mod progress;
mod report;
mod spawn;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    openmp::wait_politely();
    spawn::die_with_launcher();
    cli::main()
}
