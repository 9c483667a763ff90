//! Counts of a preparation, and lengths in powers of two.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How many lengths lie up to each power of two.
#[derive(Debug, Default, Clone)]
pub struct Lengths {
    counts: BTreeMap<u32, u64>,
    total: u64,
    sum: u64,
    longest: u64,
}

impl Lengths {
    /// Counts one.
    pub fn add(&mut self, length: usize) {
        let length = length as u64;
        let power = length.max(1).next_power_of_two().trailing_zeros();
        *self.counts.entry(power).or_default() += 1;
        self.total += 1;
        self.sum += length;
        self.longest = self.longest.max(length);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The mean; 0 of none.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.total.max(1) as f64
    }

    /// The longest; 0 of none.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// Upper bounds and counts, without gaps between the first and the last.
    pub fn bars(&self) -> Vec<(u64, u64)> {
        let (Some(first), Some(last)) = (self.counts.keys().next(), self.counts.keys().last())
        else {
            return Vec::new();
        };
        (*first..=*last)
            .map(|power| {
                let count = self.counts.get(&power).copied().unwrap_or(0);
                (1 << power, count)
            })
            .collect()
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let bars: Vec<Value> = self
            .bars()
            .iter()
            .map(|(bound, count)| json!({"at_most": bound, "count": count}))
            .collect();
        json!({"count": self.total, "sum": self.sum, "mean": self.mean(), "longest": self.longest, "histogram": bars})
    }
}

/// Upper bounds of the bars of structural similarity.
const SSIM_BOUNDS: [f64; 8] = [0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0];

/// Similarities of rows before and after.
#[derive(Debug, Default, Clone)]
pub struct Similarities {
    counts: [u64; SSIM_BOUNDS.len()],
    total: u64,
    sum: f64,
    least: Option<f64>,
}

impl Similarities {
    /// Counts one.
    pub fn add(&mut self, value: f64) {
        let at = SSIM_BOUNDS.iter().position(|bound| value <= *bound);
        self.counts[at.unwrap_or(SSIM_BOUNDS.len() - 1)] += 1;
        self.total += 1;
        self.sum += value;
        self.least = Some(self.least.map_or(value, |least| least.min(value)));
    }

    /// Mean and least, if any was counted.
    pub fn mean_and_least(&self) -> Option<(f64, f64)> {
        Some((self.sum / self.total as f64, self.least?))
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let bars: Vec<Value> = SSIM_BOUNDS
            .iter()
            .zip(self.counts)
            .map(|(bound, count)| json!({"at_most": bound, "count": count}))
            .collect();
        let (mean, least) = self.mean_and_least().unzip();
        json!({"count": self.total, "mean": mean, "least": least, "histogram": bars})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_powers_of_two_without_gaps() {
        let mut lengths = Lengths::default();
        for length in [0, 1, 3, 4, 5, 17] {
            lengths.add(length);
        }
        assert_eq!(
            lengths.bars(),
            [(1, 2), (2, 0), (4, 2), (8, 1), (16, 0), (32, 1)]
        );
        assert_eq!(
            (lengths.total(), lengths.longest(), lengths.mean()),
            (6, 17, 5.0)
        );
    }
}
