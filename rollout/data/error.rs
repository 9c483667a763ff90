//! What can be wrong with a data source; every message says key, or file and line.

use std::path::PathBuf;

/// A data source that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A config value that no source can be opened with.
    #[error("{key}: {problem}")]
    Config {
        /// Dotted key in the config.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A file that cannot be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    Read {
        /// Dotted key in the config that names the file.
        key: String,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A row that is not what the source's `fields` ask for.
    #[error("{}{at}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: At,
        /// What is wrong with it.
        problem: String,
    },
    /// A checkpoint's cursor that does not fit the config's sources.
    #[error("data cursor of the checkpoint: {0}")]
    State(String),
}

/// Where in a file a row lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Line, from 1.
    Line(u64),
    /// Record, from 1, of a file that is one document.
    Record(u64),
    /// Row of a Parquet file's row group, both from 0.
    RowGroup {
        /// The row group.
        group: u64,
        /// The row within it.
        row: u64,
    },
    /// The file is one row.
    File,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, ":{line}"),
            Self::Record(record) => write!(f, ": record {record}"),
            Self::RowGroup { group, row } => write!(f, ": row group {group}, row {row}"),
            Self::File => Ok(()),
        }
    }
}

impl DataError {
    /// The error with `parent` before its key, where that is a key of a stage's `curriculum`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        if let Self::Config { key, .. } = &mut self
            && key.starts_with("curriculum")
        {
            *key = format!("{parent}.{key}");
        }
        self
    }

    /// A [`DataError::Config`] about `key`.
    pub(crate) fn config(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config {
            key: key.into(),
            problem: problem.into(),
        }
    }
}
