//! What an evaluation says of one item, and how numbers of a suite are mixed from those of its items.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// One row of `items.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalItem {
    /// The suite's task that it belongs to.
    pub task: String,
    /// The suite's own id, as text.
    pub id: String,
    /// Whether there is a prediction that can be judged: a picture, or an answer.
    pub valid: bool,
    /// Why there is none.
    pub reason: Option<String>,
    /// Its finite numbers by metric.
    pub values: IndexMap<String, f64>,
    /// Why a metric has no number here, by metric; such an item is left out of that metric's mean.
    #[serde(default)]
    pub failures: IndexMap<String, String>,
}

impl EvalItem {
    /// One without numbers yet; `reason` says why it is not valid.
    pub fn new(task: &str, id: &str, reason: Option<String>) -> Self {
        Self {
            task: task.to_owned(),
            id: id.to_owned(),
            valid: reason.is_none(),
            reason,
            values: IndexMap::new(),
            failures: IndexMap::new(),
        }
    }

    /// Keeps a metric's number, or counts it as a failure where it is none.
    pub fn put(&mut self, metric: &str, value: f64) {
        match value.is_finite() {
            true => drop(self.values.insert(metric.to_owned(), value)),
            false => self.fail(metric, format!("the number is {value}")),
        }
    }

    /// Says why a metric has no number; the first reason stays.
    pub fn fail(&mut self, metric: &str, why: impl Into<String>) {
        self.failures
            .entry(metric.to_owned())
            .or_insert_with(|| why.into());
    }
}

/// A suite's number: `constant + sum of weight * mean of a task's metric`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Mix {
    /// What is added.
    pub constant: f64,
    /// The means in it.
    pub terms: Vec<MixTerm>,
}

/// One mean of a [`Mix`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixTerm {
    /// Its factor.
    pub weight: f64,
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: String,
}

impl Mix {
    /// With one more mean in it.
    pub fn and(mut self, weight: f64, task: &str, metric: &str) -> Self {
        self.terms.push(MixTerm {
            weight,
            task: task.to_owned(),
            metric: metric.to_owned(),
        });
        self
    }

    /// Its value; none where a mean is missing.
    pub fn value(&self, mean: impl Fn(&str, &str) -> Option<f64>) -> Option<f64> {
        let add = |sum, term: &MixTerm| Some(sum + term.weight * mean(&term.task, &term.metric)?);
        self.terms.iter().try_fold(self.constant, add)
    }
}
