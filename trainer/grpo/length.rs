//! How long a step's completions may be: by the longest reference of its prompts, where the config says so.

use crate::TrainError;
use crate::algorithm::StepContext;
use crate::config::RolloutConfig;

/// The most tokens of completions whose prompts have these references, this rank's share of them; the same on every
/// rank.
///
/// # Errors
/// A lost rank.
pub(super) fn most_tokens(
    rollout: &RolloutConfig,
    cx: &StepContext,
    references: &[Option<Vec<i64>>],
) -> Result<usize, TrainError> {
    if rollout.longest_reference_plus.is_none() {
        return Ok(rollout.max_new_tokens);
    }
    let own = references.iter().flatten().map(Vec::len).max();
    let all = cx.stage.ranks.all_gather(&[own.unwrap_or(0) as f64])?;
    let longest = all.into_iter().flatten().fold(0.0, f64::max);
    Ok(rollout.most_tokens(longest as usize))
}
