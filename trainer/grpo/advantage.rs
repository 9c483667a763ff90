//! Advantages of a batch of groups: rewards in, numbers out.
//!
//! `a = (r - mean) / (std + epsilon)`. Mean and deviation over the group are GRPO's (Shao et al.
//! 2024, arXiv 2402.03300); no deviation is Dr. GRPO's (arXiv 2503.20783); a group mean with a
//! batch deviation is Lite-PPO's (arXiv 2508.08221), as VectorGym uses it.

use crate::config::{AdvantageConfig, MeanOver, StdOf, StdOver};

/// Whether all of a group's rewards are equal: nothing can be learnt from comparing them. Those that could not be scored
/// are compared with none.
pub fn is_zero_spread(rewards: &[Option<f64>]) -> bool {
    let mut scored = rewards.iter().flatten();
    let first = scored.next();
    scored.all(|reward| Some(reward) == first)
}

/// The advantage of every completion, group by group. A zero-spread group's are exactly 0; its
/// rewards count in the batch's statistics. A completion that could not be scored has 0 and counts nowhere.
pub fn advantages(groups: &[Vec<Option<f64>>], config: &AdvantageConfig) -> Vec<Vec<f64>> {
    let scored = |group: &[Option<f64>]| group.iter().flatten().copied().collect::<Vec<f64>>();
    let all: Vec<f64> = groups.iter().flat_map(|group| scored(group)).collect();
    let batch_mean = mean(&all);
    let centre = |group: &[Option<f64>]| match config.mean {
        MeanOver::Group => mean(&scored(group)),
        MeanOver::Batch => batch_mean,
    };
    let centred: Vec<Vec<Option<f64>>> = groups
        .iter()
        .map(|group| {
            let centre = centre(group);
            let less = |reward: &Option<f64>| reward.map(|reward| reward - centre);
            group.iter().map(less).collect()
        })
        .collect();
    let batch_std = match config.std_of {
        StdOf::Raw => deviation(&all, config.unbiased),
        StdOf::Centred => deviation(&scored(&centred.concat()), config.unbiased),
    };
    let scale = |group: &[Option<f64>]| match config.std {
        StdOver::Group => deviation(&scored(group), config.unbiased) + config.epsilon,
        StdOver::Batch => batch_std + config.epsilon,
        StdOver::None => 1.0,
    };
    groups
        .iter()
        .zip(centred)
        .map(|(group, centred)| match is_zero_spread(group) {
            true => vec![0.0; group.len()],
            false => {
                let scale = scale(group);
                let scaled = |value: &Option<f64>| value.map_or(0.0, |value| value / scale);
                centred.iter().map(scaled).collect()
            }
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

    fn all_scored(group: Vec<f64>) -> Vec<Option<f64>> {
        group.into_iter().map(Some).collect()
    }

    #[test]
    fn what_could_not_be_scored_changes_no_siblings_advantage() {
        for mean in [MeanOver::Group, MeanOver::Batch] {
            for std in [StdOver::Group, StdOver::Batch, StdOver::None] {
                for std_of in [StdOf::Raw, StdOf::Centred] {
                    let config = AdvantageConfig {
                        mean,
                        std,
                        std_of,
                        ..AdvantageConfig::default()
                    };
                    let groups = [vec![0.0, 1.0, 5.0], vec![3.0, 4.0]].map(all_scored);
                    let mut lacking = groups.to_vec();
                    lacking[0].insert(1, None);
                    lacking.push(vec![None, None]);
                    let (full, mut found) =
                        (advantages(&groups, &config), advantages(&lacking, &config));
                    assert_eq!((found.pop(), found[0].remove(1)), (Some(vec![0.0; 2]), 0.0));
                    assert_eq!(found, full, "{mean:?} {std:?} {std_of:?}");
                }
            }
        }
    }

    #[test]
    fn one_that_is_scored_is_compared_with_none() {
        for group in [
            &[None, Some(1.0), None][..],
            &[None],
            &[],
            &[Some(2.0), None, Some(2.0)],
        ] {
            assert!(is_zero_spread(group), "{group:?}");
        }
        assert!(!is_zero_spread(&[Some(2.0), None, Some(1.0)]));
    }

    #[test]
    fn zero_spread_group_has_zero_advantage_under_every_option() {
        let groups = [vec![0.1, 0.1, 0.1], vec![0.0, 1.0, 2.0]].map(all_scored);
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
        let groups = [vec![0.0, 2.0], vec![10.0, 12.0]].map(all_scored);
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
