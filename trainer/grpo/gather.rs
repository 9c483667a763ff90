//! What ranks tell each other of a step: the rewards of every group, so that advantages and batch
//! statistics are the same for any number of ranks. Text, tokens and log-probabilities stay where they
//! are; [`crate::samples::to_leader`] sends rank 0 what it writes.

use crate::TrainError;
use crate::grpo::shaped::ShapedGroup;
use crate::learn::Ranks;

/// A group's rewards as all ranks see them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GatheredGroup {
    /// The prompt's draw number: orders the groups.
    pub(super) draw: u64,
    /// Total rewards; none of those that could not be scored.
    pub(super) totals: Vec<Option<f64>>,
    /// The rewards that advantages are made of.
    pub(super) shaped: Vec<Option<f64>>,
}

/// The groups of all ranks in the order of their draws.
///
/// # Errors
/// A lost rank.
pub(super) fn gather_rewards(
    ranks: &Ranks,
    own: &[ShapedGroup],
) -> Result<Vec<GatheredGroup>, TrainError> {
    let numbers: Vec<f64> = own.iter().flat_map(pack).collect();
    let mut all = Vec::new();
    for numbers in ranks.all_gather(&numbers)? {
        unpack(&numbers, &mut all);
    }
    all.sort_by_key(|group: &GatheredGroup| group.draw);
    Ok(all)
}

/// Draw, size, totals, shaped rewards. Draws count from 0 and stay far below 2^53; no reward is NaN, which stands for none.
fn pack(group: &ShapedGroup) -> Vec<f64> {
    let scored = &group.scored;
    let mut numbers = vec![scored.group.prompt.draw as f64, group.shaped.len() as f64];
    let number = |reward: Option<f64>| reward.unwrap_or(f64::NAN);
    numbers.extend(scored.rewards.iter().map(|reward| number(reward.total)));
    numbers.extend(group.shaped.iter().copied().map(number));
    numbers
}

fn unpack(mut numbers: &[f64], all: &mut Vec<GatheredGroup>) {
    let some = |number: f64| Some(number).filter(|number| !number.is_nan());
    while let [draw, size, rest @ ..] = numbers {
        let (totals, rest) = rest.split_at(*size as usize);
        let (shaped, rest) = rest.split_at(*size as usize);
        all.push(GatheredGroup {
            draw: *draw as u64,
            totals: totals.iter().copied().map(some).collect(),
            shaped: shaped.iter().copied().map(some).collect(),
        });
        numbers = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_groups_are_read_back() {
        let mut all = Vec::new();
        unpack(
            &[3.0, 2.0, 0.5, f64::NAN, 0.25, f64::NAN, 7.0, 1.0, 2.0, 2.5],
            &mut all,
        );
        assert_eq!(all.len(), 2);
        let totals = &all[0].totals[..];
        assert_eq!((all[0].draw, totals), (3, &[Some(0.5), None][..]));
        assert_eq!(all[0].shaped, [Some(0.25), None]);
        assert_eq!((all[1].draw, &all[1].shaped[..]), (7, &[Some(2.5)][..]));
    }
}
