//! How libtorch's threads wait for each other.
//!
//! GNU OpenMP lets a thread that waits spin for a while. When something else runs on the machine,
//! a step of many small operators then becomes a hundred times slower, because threads spin for
//! one that has no core. A short spin costs nothing measurable on an idle machine. libgomp reads
//! its settings as it is loaded, so the program starts itself again with them.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Turns of the waiting loop, a few microseconds.
const SPIN: &str = "1000";
/// Commands that compute.
const COMMANDS: [&str; 7] = [
    "train",
    "generate",
    "logprobs",
    "embed",
    "reward",
    "serve-rewards",
    "bench",
];

/// Starts the program again with a short spin, unless the user has chosen one.
pub fn wait_politely() {
    let chosen = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"]
        .iter()
        .any(|name| env::var_os(name).is_some());
    let computes = env::args_os().any(|argument| {
        argument
            .to_str()
            .is_some_and(|text| COMMANDS.contains(&text))
    });
    if chosen || !computes {
        return;
    }
    if let Ok(program) = env::current_exe() {
        // It only returns when it failed; then the defaults must do.
        let _ = Command::new(program)
            .args(env::args_os().skip(1))
            .env("GOMP_SPINCOUNT", SPIN)
            .exec();
    }
}
