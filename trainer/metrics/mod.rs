//! What a step says of itself: numbers under declared names ([`keys`]), one JSON object a step.

mod aliases;
mod file;
pub mod keys;

use std::fmt::Write as _;

use indexmap::IndexMap;

pub use aliases::{AliasSet, aliases};
pub use file::{Keep, MetricsFile, Rows, copy, cut, evaluations};
pub use keys::Metric;

/// The metrics of one step, in the order they were set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(IndexMap<String, f64>);

impl Metrics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a metric that has no names of the user's.
    pub fn set(&mut self, metric: &Metric, value: f64) {
        self.0.insert(metric.name.to_owned(), value);
    }

    /// Sets a metric whose `<..>` are `names`.
    pub fn set_of(&mut self, metric: &Metric, names: &[&str], value: f64) {
        self.0.insert(metric.of(names), value);
    }

    /// Sets a metric by its whole name, as [`Metric::of`] gives it.
    pub(crate) fn set_name(&mut self, name: String, value: f64) {
        self.0.insert(name, value);
    }

    /// A metric's value.
    pub fn get(&self, metric: &Metric) -> Option<f64> {
        self.0.get(metric.name).copied()
    }

    /// The value of a metric whose name holds names of the user's, in order.
    pub fn get_of(&self, metric: &Metric, names: &[&str]) -> Option<f64> {
        self.0.get(&metric.of(names)).copied()
    }

    /// A metric's value on the held-out set `set`.
    pub fn get_held_out(&self, set: &str, metric: &Metric) -> Option<f64> {
        self.0.get(&keys::held_out(set, metric.name)).copied()
    }

    /// The held-out set that this is a row of.
    pub fn held_out_set(&self) -> Option<&str> {
        keys::of_held_out(self.0.keys().next()?).map(|(set, _)| set)
    }

    /// The same numbers, of the held-out set `set`.
    #[must_use]
    pub fn held_out(self, set: &str) -> Self {
        let named = self.0.into_iter();
        Self(
            named
                .map(|(name, value)| (keys::held_out(set, &name), value))
                .collect(),
        )
    }

    /// Adds `other`'s, in place of those of the same name.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// [`keys::ALL`] in Markdown, the end of configs/REFERENCE.md.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "\n## What a run measures\n\nWhat a row of metrics.jsonl may hold beside `stage`, `step` and `time` (Unix seconds); `<..>` stands for a name of your own.\n\n| metric | meaning |\n|---|---|\n",
    );
    for Metric { name, meaning } in keys::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    out
}
