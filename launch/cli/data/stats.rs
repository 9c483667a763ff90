//! Lengths and similarities, counted exactly enough to say any quantile of them later.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How many things are how long. Memory grows with the number of different lengths alone.
#[derive(Debug, Default, Clone)]
pub struct Lengths {
    counts: BTreeMap<u64, u64>,
    total: u64,
    sum: u64,
}

impl Lengths {
    /// Counts one.
    pub fn add(&mut self, length: usize) {
        let length = length as u64;
        *self.counts.entry(length).or_default() += 1;
        self.total += 1;
        self.sum += length;
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
        self.counts.keys().next_back().copied().unwrap_or(0)
    }

    /// The least length that a `share` of all do not exceed, 0 < share <= 1; 0 of none.
    pub fn quantile(&self, share: f64) -> u64 {
        quantile(&self.counts, self.total, share).unwrap_or(0)
    }

    /// Upper bounds, powers of two, and counts, without gaps between the first and the last.
    pub fn bars(&self) -> Vec<(u64, u64)> {
        let power = |length: u64| length.max(1).next_power_of_two().trailing_zeros();
        let (Some(first), Some(last)) = (self.counts.keys().next(), self.counts.keys().next_back())
        else {
            return Vec::new();
        };
        let mut bars: Vec<(u64, u64)> = (power(*first)..=power(*last))
            .map(|power| (1 << power, 0))
            .collect();
        for (length, count) in &self.counts {
            bars[(power(*length) - power(*first)) as usize].1 += count;
        }
        bars
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let bars: Vec<Value> = self
            .bars()
            .iter()
            .map(|(bound, count)| json!({"at_most": bound, "count": count}))
            .collect();
        json!({
            "count": self.total, "sum": self.sum, "mean": self.mean(),
            "median": self.quantile(0.5), "p95": self.quantile(0.95), "longest": self.longest(),
            "histogram": bars,
        })
    }
}

/// The least key that a `share` of the counts do not exceed.
fn quantile<K: Copy>(counts: &BTreeMap<K, u64>, total: u64, share: f64) -> Option<K> {
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    let reaches = |(_, count): &(&K, &u64)| {
        seen += **count;
        seen >= rank
    };
    counts.iter().find(reaches).map(|(key, _)| *key)
}

/// Upper bounds of the bars of structural similarity.
const SSIM_BOUNDS: [f64; 8] = [0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0];
/// Steps of 1 that similarities are counted in, for quantiles.
const STEPS: f64 = 1e5;

/// Similarities of rows before and after.
#[derive(Debug, Default, Clone)]
pub struct Similarities {
    bars: [u64; SSIM_BOUNDS.len()],
    counts: BTreeMap<i32, u64>,
    total: u64,
    sum: f64,
    least: Option<f64>,
}

impl Similarities {
    /// Counts one.
    pub fn add(&mut self, value: f64) {
        let at = SSIM_BOUNDS.iter().position(|bound| value <= *bound);
        self.bars[at.unwrap_or(SSIM_BOUNDS.len() - 1)] += 1;
        let step = (value * STEPS).floor() as i32;
        *self.counts.entry(step).or_default() += 1;
        self.total += 1;
        self.sum += value;
        self.least = Some(self.least.map_or(value, |least| least.min(value)));
    }

    /// Mean and least, if any was counted.
    pub fn mean_and_least(&self) -> Option<(f64, f64)> {
        Some((self.sum / self.total as f64, self.least?))
    }

    /// The similarity that a `share` of all do not exceed, rounded down to five decimals.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        quantile(&self.counts, self.total, share).map(|step| f64::from(step) / STEPS)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let bars: Vec<Value> = SSIM_BOUNDS
            .iter()
            .zip(self.bars)
            .map(|(bound, count)| json!({"at_most": bound, "count": count}))
            .collect();
        let (mean, least) = self.mean_and_least().unzip();
        json!({
            "count": self.total, "mean": mean, "median": self.quantile(0.5),
            "p1": self.quantile(0.01), "least": least, "histogram": bars,
        })
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

    #[test]
    fn a_quantile_is_the_least_value_that_a_share_does_not_exceed() {
        let mut lengths = Lengths::default();
        let mut similarities = Similarities::default();
        assert_eq!(
            (lengths.quantile(0.5), similarities.quantile(0.5)),
            (0, None)
        );
        for length in 1..=200 {
            lengths.add(length);
            similarities.add(1.0 - length as f64 / 1000.0);
        }
        let of = |share| lengths.quantile(share);
        assert_eq!([of(0.005), of(0.5), of(0.95), of(1.0)], [1, 100, 190, 200]);
        let p1 = similarities.quantile(0.01).unwrap();
        assert!((p1 - 0.801).abs() <= 1e-5, "{p1}");
    }
}
