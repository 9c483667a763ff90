//! The `svgrl` program: one command family per file in `cli`.
//!
//! Exit status 0: done; 2: the user's input is wrong; 75: an end that a restart mends; 130, 143, 129: a run that
//! a signal stopped; 1: anything else.

#[macro_use]
mod console;

mod cli;
mod live;
mod openmp;
mod progress;
mod report;
mod spawn;
mod telemetry;
mod watch;

use std::process::ExitCode;

/// Says where memory ran out, instead of aborting.
#[global_allocator]
static ALLOCATOR: torch_ext::SentenceAllocator = torch_ext::SentenceAllocator;

fn main() -> ExitCode {
    torch_ext::prepare_for_full_memory(cli::SMALLER);
    openmp::wait_politely();
    spawn::die_with_launcher();
    cli::main()
}
