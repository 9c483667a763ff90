//! What somebody else says of a completion: a judge, a service, a program of the user's own.

use std::sync::Arc;

/// A reward's number, and others that stand beside it for the record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scores {
    pub value: f64,
    /// By name; they are in no total.
    pub named: Vec<(String, f64)>,
}

/// What was said, or why nothing was.
pub(crate) type Verdict = Result<Scores, Arc<str>>;

impl Scores {
    /// A number alone.
    pub fn of(value: f64) -> Self {
        Scores {
            value,
            named: Vec::new(),
        }
    }

    /// Whether all of them are numbers to reckon with.
    pub fn are_finite(&self) -> bool {
        self.value.is_finite() && self.named.iter().all(|(_, value)| value.is_finite())
    }
}
