//! `svgrl launch`: starts the local ranks of a run and stands guard over them, and over samplers beside them.
//!
//! Each rank is this program again, with torchrun's variables in its
//! environment, so that `torchrun --no-python`, srun and Kubernetes can take
//! this command's place. The first rank that fails stops the others; a signal that
//! this command gets is every rank's, and they end by it together. A sampler is this
//! program too, but no rank; one that ends is replaced, and all end after the ranks.
//! Restarting ranks is left out: run the same command again and it resumes.

mod args;
mod error;
mod guard;
mod plan;

use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub use args::Args;
pub use error::LaunchError;
use error::io;
use guard::{Samplers, guard, start};
use plan::{LAUNCHED, Plan};

/// Starts the ranks and waits for them; returns the exit status for this
/// process: 0 when every rank ended with 0, else that of the first failure
/// (128 + N for a rank that signal N ended, and for ranks that this command's
/// signal N stopped before their end).
///
/// # Errors
/// When the flags contradict each other, or a rank cannot be started (those
/// already running are stopped then).
pub fn run(args: &Args) -> Result<u8, LaunchError> {
    let plan = Plan::of(args)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(io("listen for signals"))?;
    let program = std::env::current_exe().map_err(io("find this program"))?;
    let command = |variables: Vec<(&'static str, String)>| {
        let mut command = Command::new(&program);
        command.args(&args.command).envs(variables);
        command
    };
    let sampler = |number: usize| {
        let local = number - plan.sampler(0);
        let one = std::iter::once(command(plan.sampler_variables(local)));
        let mut started = start(one, number)?;
        Ok(started.remove(0))
    };
    let ranks = (0..args.nproc_per_node).map(|local| command(plan.rank_variables(local)));
    let beside = (0..plan.samplers()).map(|local| command(plan.sampler_variables(local)));
    let beside = start(beside, plan.sampler(0))?;
    // Samplers wait for the ranks, and go with this process where these do not come.
    let ranks = start(ranks, plan.first_rank)?;
    let mut samplers = Samplers {
        running: beside,
        all: plan.all_samplers(),
        start: Box::new(sampler),
        patience: Duration::from_secs(args.grace_s),
        restarts: args.sampler_restarts,
        ended: Vec::new(),
    };
    let grace = Duration::from_secs(args.grace_s);
    let pending = || signals.pending().collect();
    Ok(guard(
        ranks,
        &mut samplers,
        (plan.world_size, grace),
        pending,
    ))
}

/// In a rank or sampler that `svgrl launch` started: asks the system to end this process
/// when the launcher is killed, so that no rank is left behind. Elsewhere it
/// does nothing. Call it from the main thread.
pub fn die_with_launcher() {
    let Ok(launcher) = std::env::var(LAUNCHED) else {
        return;
    };
    // A kernel without this leaves the old behaviour.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    // A launcher that was killed before that sends nothing any more.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.is_none_or(|parent| parent != launcher) {
        std::process::exit(128 + SIGTERM);
    }
}
