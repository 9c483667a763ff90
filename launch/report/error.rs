//! Why a report cannot be made.

use std::path::PathBuf;

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder holds no metrics.
    #[error("{} is no run folder: it has no metrics.jsonl", .0.display())]
    NotARun(PathBuf),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// TensorBoard's files.
    #[error(transparent)]
    Media(trainer::TrainError),
    /// A line that is not what the run folder's format says.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}
