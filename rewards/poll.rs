//! Waiting that may be given up: how often those who wait look up, and what comes of giving up.

use std::time::Duration;

/// How often a caller that may give up is asked whether it does.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// The caller gave up waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;
