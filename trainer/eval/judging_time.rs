//! How long judging took, and how much of that the networks computed.

use std::time::Duration;

/// What judging pictures took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JudgingTime {
    /// From the first item to the last.
    pub whole: Duration,
    /// Of it, passes of the networks.
    pub networks: Duration,
}
