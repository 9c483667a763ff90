//! Which trajectories go to which update: whole groups, split evenly among a step's updates.

use std::collections::HashMap;

use rollout::FinishReason;

use super::advantage::is_zero_spread;
use super::gather::GatheredGroup;
use super::shaped::ShapedGroup;
use crate::config::{GrpoConfig, Truncated, ZeroSpread};
use crate::learn::Trajectory;

/// What a step's rollouts hold to learn from, on this rank.
pub(super) struct Minibatches {
    /// The trajectories of each update.
    pub(super) updates: Vec<Vec<Trajectory>>,
    /// Those of zero-spread groups and masked ones, all with advantage 0: measured at most.
    pub(super) filtered: Vec<Trajectory>,
}

/// Advantages by draw number.
pub(super) type Advantages<'a> = HashMap<u64, &'a [f64]>;

/// Splits this rank's groups among the updates by their place among `all` ranks' groups. Zero-spread
/// groups are dropped here and only here.
pub(super) fn minibatches(
    config: &GrpoConfig,
    own: Vec<ShapedGroup>,
    all: &[GatheredGroup],
    advantages: &Advantages,
) -> Minibatches {
    let keep_all = config.advantage.zero_spread == ZeroSpread::Keep;
    let kept: Vec<u64> = all
        .iter()
        .filter(|group| keep_all || !is_zero_spread(&group.shaped))
        .map(|group| group.draw)
        .collect();
    let count = config.loss.updates;
    let mut out = Minibatches {
        updates: vec![Vec::new(); count],
        filtered: Vec::new(),
    };
    for group in own {
        let draw = group.scored.group.prompt.draw;
        let update = kept.binary_search(&draw).ok();
        let update = update.map(|ordinal| ordinal * count / kept.len());
        let advantages = advantages.get(&draw).copied().unwrap_or_default();
        for (mut trajectory, finish) in group.trajectories(advantages) {
            let masked = finish == FinishReason::Length && config.loss.truncated == Truncated::Mask;
            match update.filter(|_| !masked) {
                Some(update) => out.updates[update].push(trajectory),
                None => {
                    trajectory.advantage = 0.0;
                    out.filtered.push(trajectory);
                }
            }
        }
    }
    out
}
