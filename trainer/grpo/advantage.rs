//! Advantages of a batch of groups: rewards in, numbers out.
//!
//! `a = (r - mean) / (std + epsilon)`. Mean and deviation over the group are GRPO's (Shao et al.
//! 2024, arXiv 2402.03300); no deviation is Dr. GRPO's (arXiv 2503.20783); a group mean with a
//! batch deviation is Lite-PPO's (arXiv 2508.08221), as VectorGym uses it.

use crate::config::{AdvantageConfig, MeanOver, StdOf, StdOver};

/// Whether all of a group's rewards are equal: nothing can be learnt from comparing them.
pub fn is_zero_spread(rewards: &[f64]) -> bool {
    rewards.iter().all(|reward| *reward == rewards[0])
}

/// The advantage of every completion, group by group. A zero-spread group's are exactly 0; its
/// rewards count in the batch's statistics.
pub fn advantages(groups: &[Vec<f64>], config: &AdvantageConfig) -> Vec<Vec<f64>> {
    let all: Vec<f64> = groups.concat();
    let batch_mean = mean(&all);
    let centre = |group: &[f64]| match config.mean {
        MeanOver::Group => mean(group),
        MeanOver::Batch => batch_mean,
    };
    let centred: Vec<Vec<f64>> = groups
        .iter()
        .map(|group| group.iter().map(|reward| reward - centre(group)).collect())
        .collect();
    let batch_std = match config.std_of {
        StdOf::Raw => deviation(&all, config.unbiased),
        StdOf::Centred => deviation(&centred.concat(), config.unbiased),
    };
    let scale = |group: &[f64]| match config.std {
        StdOver::Group => deviation(group, config.unbiased) + config.epsilon,
        StdOver::Batch => batch_std + config.epsilon,
        StdOver::None => 1.0,
    };
    groups
        .iter()
        .zip(centred)
        .map(|(group, centred)| match is_zero_spread(group) {
            true => vec![0.0; group.len()],
            false => centred.iter().map(|value| value / scale(group)).collect(),
        })
        .collect()
}

/// The arithmetic mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        0.0
    } else {
        values.iter().sum::<f64>() / values.len() as f64
    }
}

/// The standard deviation about the values' own mean; 0 where it is undefined.
pub fn deviation(values: &[f64], unbiased: bool) -> f64 {
    let divisor = values.len() as f64 - if unbiased { 1.0 } else { 0.0 };
    if divisor <= 0.0 {
        return 0.0;
    }
    let mean = mean(values);
    (values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / divisor)
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_spread_group_has_zero_advantage_under_every_option() {
        let groups = vec![vec![0.1, 0.1, 0.1], vec![0.0, 1.0, 2.0]];
        for mean in [MeanOver::Group, MeanOver::Batch] {
            for std in [StdOver::Group, StdOver::Batch, StdOver::None] {
                let config = AdvantageConfig {
                    mean,
                    std,
                    epsilon: 0.0,
                    ..AdvantageConfig::default()
                };
                let out = advantages(&groups, &config);
                assert_eq!(out[0], [0.0; 3]);
                assert!(out[1].iter().any(|value| *value != 0.0));
            }
        }
    }

    #[test]
    fn a_batch_deviation_is_of_raw_or_of_centred_rewards() {
        let groups = vec![vec![0.0, 2.0], vec![10.0, 12.0]];
        let of = |std_of| {
            let config = AdvantageConfig {
                std: StdOver::Batch,
                std_of,
                unbiased: false,
                epsilon: 0.0,
                ..AdvantageConfig::default()
            };
            advantages(&groups, &config)[0][1]
        };
        assert!((of(StdOf::Centred) - 1.0).abs() < 1e-12);
        assert!((of(StdOf::Raw) - 1.0 / 26f64.sqrt()).abs() < 1e-12);
    }
}
