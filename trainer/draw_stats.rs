//! How long the references of a step's draws are, by task, and which buckets they come from.

use indexmap::IndexMap;
use rollout::data::{Draw, Spread};

use crate::metrics::{Metrics, keys};

/// Counts over the draws of a step, of all ranks: every rank draws the whole list.
#[derive(Debug, Clone, Default)]
pub struct DrawStats {
    tasks: IndexMap<String, Sums>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    draws: f64,
    length: f64,
    bucketed: f64,
    bucket: f64,
}

impl DrawStats {
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

    /// The step's metrics, with what the loader has learnt from rewards.
    pub fn metrics(&self, spreads: Vec<Spread>) -> Metrics {
        let mut metrics = Metrics::new();
        for (task, sums) in &self.tasks {
            let length = sums.length / sums.draws;
            metrics.set_of(&keys::REFERENCE_LENGTH, &[task], length);
            if sums.bucketed > 0.0 {
                let bucket = sums.bucket / sums.bucketed;
                metrics.set_of(&keys::BUCKET, &[task], bucket);
            }
        }
        for spread in spreads {
            let bucket = spread.bucket.to_string();
            metrics.set_of(&keys::SPREAD, &[&spread.stream, &bucket], spread.mean);
        }
        metrics
    }
}
