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
        Self {
            code: 2,
            message: message.to_string(),
        }
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
        TrainError::from(error).into()
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

/// libtorch's errors without quotes and C++ stack, and with a way out where a GPU's memory was full.
fn plain(message: &str) -> String {
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
