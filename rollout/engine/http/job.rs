//! A completion on its way, and what comes back.

use std::time::Instant;

use super::answer::{Ask, ServerAnswer};

/// One completion on its way.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// The caller's number for it.
    pub(super) key: usize,
    /// What is asked for.
    pub(super) ask: Ask,
    /// How often it was drawn anew, by the caller.
    pub(super) redrawn: u32,
    /// When it was first asked for.
    pub(super) sent: Option<Instant>,
    /// How often its answer was of no use.
    pub(super) unusable: u32,
    /// Updates of the weights that had begun when it was last asked for.
    pub(super) updates: u64,
    /// Version of the weights that it was last asked of, where they have one.
    pub(super) version: Option<u64>,
}

impl Job {
    pub(super) fn new(key: usize, ask: Ask) -> Self {
        Self {
            key,
            ask,
            redrawn: 0,
            sent: None,
            unusable: 0,
            updates: 0,
            version: None,
        }
    }
}

/// Why no completion comes any more.
#[derive(Debug, Clone)]
pub(super) enum Loss {
    /// No server gives one in time.
    Gone(String),
    /// A server answers what must not be used.
    Wrong(String),
}

/// What comes back.
pub(super) enum Event {
    /// A completion, which the job's own server wrote.
    Answered(Box<Job>, ServerAnswer),
    /// The end.
    Lost(Loss),
}
