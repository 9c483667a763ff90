//! Why a config cannot be used.

use std::path::PathBuf;

/// A config that cannot be used. Always the user's input: exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// One sentence per mistake, each with file and line (or the `--set` it came from) and key.
    #[error("{}", problems.join("\n"))]
    Invalid {
        /// The sentences.
        problems: Vec<String>,
    },
}

impl ConfigError {
    /// Of one sentence.
    pub(super) fn one(problem: String) -> Self {
        Self::Invalid {
            problems: vec![problem],
        }
    }
}
