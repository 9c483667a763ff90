//! Rewards that could not be had: told at once the first time, and counted.

use indexmap::IndexMap;
use std::sync::{Mutex, PoisonError};

/// Target of what is told.
const TARGET: &str = "svgrl::rewards";

/// What failed of one reward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFailures {
    /// Its name, or the word of what kept a whole completion from being judged.
    pub part: String,
    /// Completions that it could not be had for.
    pub count: u64,
    /// Why, the first time.
    pub first: String,
}

/// All that failed so far, by the part's name.
#[derive(Default)]
pub(crate) struct Failures(Mutex<IndexMap<String, (u64, String)>>);

impl Failures {
    /// Counts one; `counts_as` is the value that stands for it, none where its completion is unscorable.
    pub fn note(&self, part: &str, why: &str, counts_as: Option<f64>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = all.get_mut(part) {
            *count += 1;
            return;
        }
        all.insert(part.to_owned(), (1, why.to_owned()));
        drop(all);
        let becomes = match counts_as {
            Some(value) => format!("it counts as {value}"),
            None => "the completion is left out of its group, with advantage 0".to_owned(),
        };
        tracing::warn!(
            target: TARGET,
            "{part}: a completion could not be scored: {why} ({becomes}; told once, counted on)"
        );
    }

    /// What failed, in the order of its first time.
    pub fn read(&self) -> Vec<PartFailures> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(part, (count, first)): (&String, &(u64, String))| PartFailures {
            part: part.clone(),
            count: *count,
            first: first.clone(),
        };
        all.iter().map(one).collect()
    }
}
