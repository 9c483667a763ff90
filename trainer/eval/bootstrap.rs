//! Intervals by the percentile bootstrap (Efron 1979) over a task's items: the items are drawn anew, with
//! replacement, and every number of theirs is computed again. One draw of items serves all metrics of a
//! task, so that mixed numbers keep their metrics' correlation, and two results' differences are paired.
//!
//! Draws are functions of seed, task, sample and place, so that an interval is the same whatever the
//! number of threads and whichever metrics stand beside it.

use rayon::prelude::*;
use rollout::mix;
use serde::Serialize;

/// How often items are drawn anew, and what an interval holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Draws.
    pub samples: usize,
    /// Share of the draws inside an interval, 0..1.
    pub confidence: f64,
    /// Keys the draws.
    pub seed: u64,
}

/// Where a number lies with the bootstrap's confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

const BASE: u64 = 0x6576_616c;

impl Bootstrap {
    /// The means of each column over every draw: `[column][sample]`. A column holds a number for each item of
    /// `task`, NaN where there is none; a draw without any number has the mean NaN.
    pub fn means(&self, task: &str, columns: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let items = columns.first().map_or(0, Vec::len);
        let own = task.bytes().fold(mix(BASE, self.seed), |state, byte| {
            mix(state, u64::from(byte))
        });
        let draw = |sample: usize| -> Vec<f64> {
            let key = mix(own, sample as u64);
            let mut sums = vec![(0.0, 0usize); columns.len()];
            for place in 0..items {
                let word = u128::from(mix(key, place as u64));
                let item = ((word * items as u128) >> 64) as usize;
                for (column, (sum, count)) in columns.iter().zip(&mut sums) {
                    let value = column[item];
                    if !value.is_nan() {
                        *sum += value;
                        *count += 1;
                    }
                }
            }
            let mean = |(sum, count): (f64, usize)| sum / count as f64;
            sums.into_iter().map(mean).collect()
        };
        let draws: Vec<Vec<f64>> = (0..self.samples).into_par_iter().map(draw).collect();
        (0..columns.len())
            .map(|column| draws.iter().map(|draw| draw[column]).collect())
            .collect()
    }

    /// The middle share of `means`, by linear interpolation between neighbours; none where no draw has a number.
    pub fn interval(&self, means: &[f64]) -> Option<Interval> {
        let mut sorted: Vec<f64> = means.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
        };
        let outside = (1.0 - self.confidence) / 2.0;
        Some(Interval {
            low: at(outside),
            high: at(1.0 - outside),
        })
    }
}

/// The mean of a column's numbers and how many there are; none without any.
pub(super) fn mean(column: &[f64]) -> (Option<f64>, usize) {
    let known = column.iter().filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    ((count > 0).then(|| sum / count as f64), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap {
        samples: 4000,
        confidence: 0.95,
        seed: 3,
    };

    /// Numbers of mean 0 and deviation 1, nearly normal.
    fn numbers(count: usize, key: u64) -> Vec<f64> {
        let unit = |word: u64| (mix(key, word) >> 11) as f64 / (1u64 << 53) as f64;
        let normal = |i: usize| (0..12).map(|k| unit(12 * i as u64 + k)).sum::<f64>() - 6.0;
        (0..count).map(normal).collect()
    }

    #[test]
    fn an_interval_is_as_wide_as_the_normal_one() {
        let column = numbers(400, 1);
        let (centre, _) = mean(&column);
        let centre = centre.unwrap();
        let spread = column.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / 400.0;
        let half = 1.96 * (spread / 400.0).sqrt();
        let means = BOOTSTRAP.means("task", &[column]);
        let found = BOOTSTRAP.interval(&means[0]).unwrap();
        for (end, want) in [(found.low, centre - half), (found.high, centre + half)] {
            assert!((end - want).abs() < 0.06 * half, "{end} {want}");
        }
    }

    #[test]
    fn draws_depend_on_seed_and_task_alone_and_missing_numbers_are_no_zeros() {
        let column = numbers(50, 2);
        let means = |bootstrap: Bootstrap, task, columns: &[Vec<f64>]| {
            bootstrap.means(task, columns)[0].clone()
        };
        let alone = means(BOOTSTRAP, "a", std::slice::from_ref(&column));
        let beside = means(BOOTSTRAP, "a", &[column.clone(), vec![0.0; 50]]);
        assert_eq!(alone, beside);
        assert_ne!(alone, means(BOOTSTRAP, "b", std::slice::from_ref(&column)));
        let other = Bootstrap {
            seed: 4,
            ..BOOTSTRAP
        };
        assert_ne!(alone, means(other, "a", std::slice::from_ref(&column)));
        let mut holes = vec![f64::NAN; 50];
        holes[7] = 5.0;
        assert_eq!(mean(&holes), (Some(5.0), 1));
        let drawn = means(BOOTSTRAP, "a", &[holes]);
        assert!(drawn.iter().all(|v| v.is_nan() || *v == 5.0));
        let interval = BOOTSTRAP.interval(&drawn).unwrap();
        assert_eq!((interval.low, interval.high), (5.0, 5.0));
        assert_eq!(BOOTSTRAP.interval(&[f64::NAN]), None);
        assert_eq!(mean(&[f64::NAN]), (None, 0));
    }

    #[test]
    fn the_ends_lie_between_neighbours() {
        let half = Bootstrap {
            confidence: 0.5,
            ..BOOTSTRAP
        };
        let found = half.interval(&[3.0, 0.0, 2.0, 1.0]).unwrap();
        assert_eq!((found.low, found.high), (0.75, 2.25));
    }
}
