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
    /// Total rewards.
    pub(super) totals: Vec<f64>,
    /// The rewards that advantages are made of.
    pub(super) shaped: Vec<f64>,
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

/// Draw, size, totals, shaped rewards. Draws count from 0 and stay far below 2^53.
fn pack(group: &ShapedGroup) -> Vec<f64> {
    let scored = &group.scored;
    let mut numbers = vec![scored.group.prompt.draw as f64, group.shaped.len() as f64];
    numbers.extend(scored.rewards.iter().map(|reward| reward.total));
    numbers.extend(&group.shaped);
    numbers
}

fn unpack(mut numbers: &[f64], all: &mut Vec<GatheredGroup>) {
    while let [draw, size, rest @ ..] = numbers {
        let (totals, rest) = rest.split_at(*size as usize);
        let (shaped, rest) = rest.split_at(*size as usize);
        all.push(GatheredGroup {
            draw: *draw as u64,
            totals: totals.to_vec(),
            shaped: shaped.to_vec(),
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
            &[3.0, 2.0, 0.5, 1.0, 0.25, -1.0, 7.0, 1.0, 2.0, 2.5],
            &mut all,
        );
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].draw, &all[0].totals[..]), (3, &[0.5, 1.0][..]));
        assert_eq!((all[1].draw, &all[1].shaped[..]), (7, &[2.5][..]));
    }
}
