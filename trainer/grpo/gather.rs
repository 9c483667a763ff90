//! What ranks tell each other of a step: every group with its rewards, so that batch statistics
//! and metrics are the same for any number of ranks.

use serde::{Deserialize, Serialize};
use tch::Device;
use torch_ext::ProcessGroup;

use crate::grpo::ScoredGroup;
use crate::samples::{Place, SampleRow};
use crate::{TrainError, replica};

/// One group as all ranks see it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SharedGroup {
    /// The prompt's draw number: orders the groups.
    pub draw: u64,
    /// Its completions' rows.
    pub rows: Vec<SampleRow>,
    /// The rewards that advantages are made of.
    pub shaped: Vec<f64>,
}

impl SharedGroup {
    /// A scored group's rows, with the rewards that its advantages are made of.
    pub fn new(place: &Place, scored: &ScoredGroup, shaped: Vec<f64>) -> Self {
        let prompt = &scored.group.prompt;
        let completions = scored.group.completions.iter().enumerate();
        let rows = completions
            .zip(&scored.rewards)
            .map(|(completion, reward)| SampleRow::new(place, prompt, completion, reward))
            .collect();
        Self {
            draw: prompt.draw,
            rows,
            shaped,
        }
    }
}

/// The groups of all ranks in the order of their draws.
///
/// # Errors
/// A lost rank.
pub fn all_groups(
    group: &ProcessGroup,
    device: Device,
    own: Vec<SharedGroup>,
) -> Result<Vec<SharedGroup>, TrainError> {
    let mut all = match group.size() {
        1 => own,
        _ => {
            let bad = |error: serde_json::Error| {
                TrainError::Other(format!("exchange between ranks: {error}"))
            };
            let bytes = serde_json::to_vec(&own).map_err(bad)?;
            let mut all = Vec::new();
            for part in replica::gather_bytes(group, device, &bytes)? {
                all.extend(serde_json::from_slice::<Vec<SharedGroup>>(&part).map_err(bad)?);
            }
            all
        }
    };
    all.sort_by_key(|group| group.draw);
    Ok(all)
}
