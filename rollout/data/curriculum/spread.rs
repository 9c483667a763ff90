//! How rewards choose among buckets: pure functions, as [`BucketedOrder::Observed`] describes them
//! (Chen et al. 2025, arXiv 2505.14970).
//!
//! [`BucketedOrder::Observed`]: crate::data::BucketedOrder::Observed

use crate::data::order::ObservedOrder;

/// What a group's completions say of its bucket: the mean absolute deviation of their total rewards.
/// 0 for rewards that are all equal; for rewards of 0 and 1 it is largest where half are good.
pub(super) fn of_group(rewards: &[f64]) -> f64 {
    let count = rewards.len().max(1) as f64;
    let mean = rewards.iter().sum::<f64>() / count;
    rewards
        .iter()
        .map(|reward| (reward - mean).abs())
        .sum::<f64>()
        / count
}

/// The running mean after one more step, in which groups of the bucket had these spreads.
pub(super) fn after(before: Option<f64>, groups: &[f64], rate: f64) -> Option<f64> {
    if groups.is_empty() {
        return before;
    }
    let seen = groups.iter().sum::<f64>() / groups.len() as f64;
    Some(match before {
        Some(before) => (1.0 - rate) * before + rate * seen,
        None => seen,
    })
}

/// The share of each bucket, given by its rows and its running mean; they sum to 1.
pub(super) fn shares(parts: &[(usize, Option<f64>)], order: &ObservedOrder) -> Vec<f64> {
    let best = parts
        .iter()
        .filter_map(|(_, spread)| *spread)
        .fold(f64::NEG_INFINITY, f64::max);
    let rows: usize = parts.iter().map(|(rows, _)| rows).sum();
    let of_rows = |count: usize| count as f64 / rows as f64;
    // Relative to the best, so that no exponential overflows; one not yet seen counts as the best.
    let weights: Vec<f64> = parts
        .iter()
        .map(|(rows, spread)| {
            let behind = spread.map_or(0.0, |spread| spread - best);
            of_rows(*rows) * (behind / order.temperature).exp()
        })
        .collect();
    let total: f64 = weights.iter().sum();
    parts
        .iter()
        .zip(weights)
        .map(|((rows, _), weight)| {
            order.uniform * of_rows(*rows) + (1.0 - order.uniform) * weight / total
        })
        .collect()
}

/// The place at which the running sum of `shares` passes `chance`, in [0, 1).
pub(super) fn choose(shares: &[f64], chance: f64) -> usize {
    let mut sum = 0.0;
    let passed = shares.iter().position(|share| {
        sum += share;
        sum > chance
    });
    passed.unwrap_or(shares.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_that_are_half_good_spread_most() {
        let spread = |good: usize| {
            let rewards: Vec<f64> = (0..8).map(|at| f64::from(u8::from(at < good))).collect();
            of_group(&rewards)
        };
        assert_eq!([spread(0), spread(8)], [0.0, 0.0]);
        assert_eq!(spread(4), 0.5);
        // 2 p (1 - p)
        assert_eq!(spread(2), 0.375);
    }

    #[test]
    fn shares_follow_rows_where_nothing_differs_and_spread_where_it_does() {
        let order = ObservedOrder {
            temperature: 0.1,
            uniform: 0.2,
            ..Default::default()
        };
        for seen in [None, Some(0.4)] {
            let equal = shares(&[(30, seen), (10, seen)], &order);
            assert!((equal[0] - 0.75).abs() < 1e-12);
        }
        let shares = shares(&[(10, Some(0.0)), (10, Some(0.2)), (20, None)], &order);
        let (low, high) = (0.25 * (-2.0f64).exp(), 0.25);
        let expected = 0.2 * 0.25 + 0.8 * low / (low + high + 0.5);
        assert!((shares[0] - expected).abs() < 1e-12, "{shares:?}");
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_running_mean_begins_with_the_first_observation() {
        assert_eq!(after(None, &[], 0.5), None);
        assert_eq!(after(None, &[0.1, 0.3], 0.5), Some(0.2));
        assert_eq!(after(Some(0.4), &[0.2], 0.25), Some(0.75 * 0.4 + 0.05));
        assert_eq!(after(Some(0.4), &[], 0.25), Some(0.4));
    }

    #[test]
    fn chance_chooses_by_share() {
        let shares = [0.25, 0.5, 0.25];
        assert_eq!(
            [0.0, 0.2, 0.25, 0.7, 0.75, 0.999].map(|chance| choose(&shares, chance)),
            [0, 0, 1, 1, 2, 2]
        );
    }
}
