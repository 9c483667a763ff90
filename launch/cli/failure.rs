//! Why a command failed, in words for its user.

use std::fmt;
use std::process::ExitCode;

use trainer::TrainError;

use super::render;
use crate::spawn;

/// What starts the words of libtorch that tch panics with, and what their stack trace starts with;
/// a panic carries them quoted, its line ends written out.
const QUOTED: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"";
const TRACES: [&str; 2] = ["\\nException raised from", "\nException raised from"];

/// Why a command failed: a sentence and an exit status.
#[derive(Debug)]
pub struct CliFailure {
    code: u8,
    message: String,
}

impl CliFailure {
    /// The user's input is wrong.
    pub fn input(message: impl ToString) -> Self {
        let message = message.to_string();
        // A machine that is full is nobody's input, whatever was being read.
        if MACHINES.iter().any(|words| message.contains(words)) {
            return Self::other(message);
        }
        Self { code: 2, message }
    }

    /// Anything else.
    pub fn other(message: impl ToString) -> Self {
        Self {
            code: 1,
            message: plain(&message.to_string()),
        }
    }

    /// The process' exit status.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl From<TrainError> for CliFailure {
    fn from(error: TrainError) -> Self {
        if error.is_input() {
            Self::input(error)
        } else if error.is_mended_by_restart() {
            Self {
                code: 75,
                ..Self::other(error)
            }
        } else {
            Self::other(error)
        }
    }
}

impl From<models::ModelError> for CliFailure {
    fn from(error: models::ModelError) -> Self {
        TrainError::from(error).into()
    }
}

impl From<rollout::RolloutError> for CliFailure {
    fn from(error: rollout::RolloutError) -> Self {
        TrainError::from(error).into()
    }
}

impl From<rewards::RewardError> for CliFailure {
    fn from(error: rewards::RewardError) -> Self {
        // A command that keeps nothing is not continued: a service that is gone is a failure like others.
        match error {
            rewards::RewardError::Service(_) => Self::other(error),
            error => TrainError::from(error).into(),
        }
    }
}

impl From<render::RenderError> for CliFailure {
    fn from(error: render::RenderError) -> Self {
        match error {
            render::RenderError::Out { .. } => Self::input(error),
            render::RenderError::Renderer(_) => Self::other(error),
        }
    }
}

impl From<spawn::LaunchError> for CliFailure {
    fn from(error: spawn::LaunchError) -> Self {
        match error {
            spawn::LaunchError::Usage(_) => Self::input(error),
            _ => Self::other(error),
        }
    }
}

impl fmt::Display for CliFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What makes a command smaller.
pub const SMALLER: &str = "smaller: `batch.micro_tokens` and `batch.recompute: blocks` (learning), `rollout.slots` and `rollout.max_new_tokens` (sampling, evaluation), `dtype: bfloat16` or a smaller model (loading), fewer `rewards.workers` and `threads`; what was checkpointed stays";

/// What says that the machine's memory was full, whoever says it.
const FULL: [&str; 5] = [
    "can't allocate memory",
    "Cannot allocate memory",
    "bad_alloc",
    "not enough memory",
    "out of memory",
];

/// What says that no further thread could be started.
const NO_THREAD: [&str; 4] = [
    "failed to spawn thread",
    "ThreadPoolBuildError",
    "cannot start a thread",
    "Resource temporarily unavailable",
];

/// Words that no input holds by accident.
const MACHINES: [&str; 2] = [
    "Cannot allocate memory (os error 12)",
    "cannot start a thread: ",
];

/// A full machine in one sentence, if the message is of one.
fn of_a_full_machine(message: &str) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if message.contains("CUDA") {
        return None;
    }
    if says(&FULL) {
        let wanted = message.split("you tried to allocate ").nth(1);
        let bytes = wanted.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        let what = bytes.map_or_else(String::new, |bytes| {
            format!(": {:.1} MiB more do not fit", bytes / f64::from(1u32 << 20))
        });
        return Some(format!("out of memory{what}; {SMALLER}"));
    }
    says(&NO_THREAD).then(|| {
        format!("no further thread can be started: the limit of threads (ulimit -u, a container's pids limit) or of memory (ulimit -v) is reached; lower `threads` and `rewards.workers`, or raise the limit ({})", message.lines().next().unwrap_or_default())
    })
}

/// libtorch's errors without quotes and C++ stack, and with a way out where a GPU's memory was full.
fn plain(message: &str) -> String {
    if let Some(sentence) = of_a_full_machine(message) {
        return sentence;
    }
    let message = message
        .replace(QUOTED, "")
        .replace("Internal torch error: ", "");
    let end = TRACES.iter().filter_map(|trace| message.find(trace)).min();
    let words = message[..end.unwrap_or(message.len())].trim_end_matches("\")");
    match words.find("CUDA out of memory") {
        Some(at) => format!(
            "{}\nThe GPU is full: lower `batch.micro_tokens` or `rollout.slots` of the stage, set `batch.recompute: blocks` or `dtype: bfloat16`, or let encoders leave with `offload: true`.",
            &words[at..]
        ),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_machine_is_one_sentence_with_what_did_not_fit() {
        let told = "internal error: called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8388608 bytes. Error code 12 (Cannot allocate memory)\\nframe #0: x\")";
        let said = plain(told);
        assert!(
            said.starts_with(
                "out of memory: 8.0 MiB more do not fit; smaller: `batch.micro_tokens`"
            ),
            "{said}"
        );
        assert!(plain("x: std::bad_alloc").starts_with("out of memory; "));
        let said = plain("internal error: failed to spawn thread: Os { code: 11 } (at x.rs:1:1)");
        assert!(
            said.contains("ulimit -u") && said.contains("rewards.workers"),
            "{said}"
        );
        assert!(plain("CUDA out of memory. Tried").contains("The GPU is full"));
    }

    #[test]
    fn libtorchs_words_lose_their_quotes_and_their_stack() {
        let told = "libtorch: called `Result::unwrap()` on an `Err` value: Torch(\"tensors on cuda:0 and cpu\\nException raised from f at g.cpp:5\\nframe #0: h\\n\")";
        assert_eq!(plain(told), "libtorch: tensors on cuda:0 and cpu");
        assert_eq!(plain("short\nException raised from f\nframe #0"), "short");
        assert_eq!(
            plain("libtorch: called `Result::unwrap()` on an `Err` value: Torch(\"no trace\")"),
            "libtorch: no trace"
        );
        assert_eq!(plain("runs/a: no such folder"), "runs/a: no such folder");
    }
}
