//! How long the references of a step's draws are, by task, and which buckets they come from.

use indexmap::IndexMap;
use rollout::data::{Cursor, Draw};

use crate::metrics::Metrics;

/// Counts over the draws of a step, of all ranks: every rank draws the whole list.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    tasks: IndexMap<String, Sums>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    draws: f64,
    length: f64,
    bucketed: f64,
    bucket: f64,
}

impl Tally {
    /// Counts a draw.
    pub fn add(&mut self, draw: &Draw) {
        let task = draw.example.task.clone();
        let sums = self.tasks.entry(task).or_default();
        sums.draws += 1.0;
        sums.length += draw.example.length as f64;
        if let Some(bucket) = draw.bucket {
            sums.bucketed += 1.0;
            sums.bucket += bucket as f64;
        }
    }

    /// Adds the counts of further draws.
    pub fn merge(&mut self, other: Self) {
        for (task, more) in other.tasks {
            let sums = self.tasks.entry(task).or_default();
            sums.draws += more.draws;
            sums.length += more.length;
            sums.bucketed += more.bucketed;
            sums.bucket += more.bucket;
        }
    }

    /// The step's metrics, with what `cursor` has learnt from rewards.
    pub fn metrics(&self, cursor: &Cursor) -> Metrics {
        let mut metrics = Metrics::new();
        for (task, sums) in &self.tasks {
            let length = sums.length / sums.draws;
            metrics.insert(format!("data/{task}/reference_length/mean"), length);
            if sums.bucketed > 0.0 {
                let bucket = sums.bucket / sums.bucketed;
                metrics.insert(format!("data/{task}/bucket/mean"), bucket);
            }
        }
        for spread in cursor.spreads() {
            let name = format!("data/{}/spread/{}", spread.strand, spread.bucket);
            metrics.insert(name, spread.mean);
        }
        metrics
    }
}
