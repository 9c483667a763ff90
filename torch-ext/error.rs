//! The crate's error.

/// What can go wrong between Rust and libtorch.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// A C++ exception, its message without the stack trace.
    #[error("libtorch, {call}: {message}")]
    Libtorch {
        /// The function of this crate that was called.
        call: &'static str,
        /// libtorch's own words.
        message: String,
    },
    /// An argument that this crate refuses before libtorch sees it.
    #[error("{call}: {message}")]
    Argument {
        /// The function of this crate that was called.
        call: &'static str,
        /// What must hold, and what was given.
        message: String,
    },
    /// The store could not be opened or reached.
    #[error("could not {role} the store at {place} ({cause})")]
    Store {
        /// `host:port`.
        place: String,
        /// `open` or `reach`.
        role: &'static str,
        /// libtorch's own words.
        cause: String,
    },
    /// Some ranks did not join a group in time.
    #[error("of {size} ranks these have not joined within {seconds} s: {ranks}")]
    NotJoined {
        /// The ranks, separated by commas.
        ranks: String,
        /// How many were expected.
        size: usize,
        /// The deadline.
        seconds: u64,
    },
    /// Rank 0 has not called this rank.
    #[error(
        "rank 0 has not called rank {rank} within {seconds} s: it has not come, or waits for others{gave_up}"
    )]
    Uncalled {
        /// The rank that reports.
        rank: usize,
        /// The deadline.
        seconds: u64,
        /// What rank 0 said when it stopped waiting, if it did.
        gave_up: String,
    },
    /// This rank may not take part.
    #[error("rank {rank} does not start: {sentence}")]
    Refused {
        /// The rank that reports.
        rank: usize,
        /// Why.
        sentence: String,
    },
    /// Ranks that have met cannot connect to each other.
    #[error("rank {rank} cannot connect to the other ranks; it listens at {place} ({cause})")]
    Network {
        /// The rank that reports.
        rank: usize,
        /// Its address or interface, and what chose it.
        place: String,
        /// libtorch's own words.
        cause: Box<TorchError>,
    },
    /// A collective broke or reached its deadline.
    #[error("{diagnosis} (rank {rank} in phase `{phase}`, collective {number}, {cause})")]
    Collective {
        /// Who is missing, as the heartbeats tell.
        diagnosis: String,
        /// The collective.
        call: &'static str,
        /// Its number in this group, from 1.
        number: u64,
        /// The rank that reports.
        rank: usize,
        /// What that rank was doing.
        phase: String,
        /// The backend's error.
        cause: Box<TorchError>,
    },
}

impl TorchError {
    pub(crate) fn argument(call: &'static str, message: impl Into<String>) -> Self {
        Self::Argument {
            call,
            message: message.into(),
        }
    }
}
