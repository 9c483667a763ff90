//! What every format of a source hands over when it is opened: its rows by number, and what it left out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::DataError;

/// How the problem of a row begins that is simply no sample of the source's view.
pub(crate) const ABSENT: &str = "no sample of this view: ";

/// What the problem of a row with a video says.
pub(crate) const VIDEO: &str = "videos are not read";

/// A row of a file that is no example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// `file:line`.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
}

impl LeftOut {
    /// Whether nothing is wrong with the row: it lacks what the source's `view` is made of.
    pub fn is_absent(&self) -> bool {
        self.problem.starts_with(ABSENT)
    }

    /// The row that `error` is about, if it is about one.
    pub(crate) fn of(error: &DataError) -> Option<Self> {
        let DataError::Row { path, at, problem } = error else {
            return None;
        };
        Some(Self {
            place: format!("{}{at}", path.display()),
            problem: problem.clone(),
        })
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// What a format hands over when it is opened.
#[derive(Debug)]
pub(crate) struct Opened<R> {
    /// The reader of single rows.
    pub(crate) rows: R,
    /// Numbers of the rows to train on.
    pub(crate) train: Vec<u32>,
    /// Numbers of the rows to evaluate on.
    pub(crate) held_out: Vec<u32>,
    /// The rows left out.
    pub(crate) skipped: Vec<LeftOut>,
    /// Rows left out for their length.
    pub(crate) filtered: usize,
    /// Rows left out for their videos.
    pub(crate) videos: usize,
    /// Keys of rows that nothing uses.
    pub(crate) unused: Vec<String>,
    /// What tells these rows from others.
    pub(crate) digest: String,
}

impl<R> Opened<R> {
    pub(crate) fn map_rows<T>(self, map: impl FnOnce(R) -> T) -> Opened<T> {
        Opened {
            rows: map(self.rows),
            train: self.train,
            held_out: self.held_out,
            skipped: self.skipped,
            filtered: self.filtered,
            videos: self.videos,
            unused: self.unused,
            digest: self.digest,
        }
    }
}
