//! What a checkpoint holds of batches ahead of the learner: where each was drawn from, and the groups that are sampled and
//! scored, of all ranks. Prompts are drawn again, so that any number of ranks finds its own; what is missing is sampled
//! again.

use std::collections::BTreeMap;
use std::path::Path;

use rewards::Reward;
use rollout::Completion;
use rollout::data::CursorState;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::learn::Ranks;

/// The file in a checkpoint's trainer/.
pub const AHEAD: &str = "ahead.json";

/// Batches ahead of the learner.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StoredQueue {
    /// The oldest first.
    pub batches: Vec<StoredBatch>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredBatch {
    /// The step that learns from it.
    pub step: u64,
    /// The loader's place before it was drawn.
    pub before: CursorState,
    /// Groups that are whole, by their draws.
    pub groups: BTreeMap<u64, StoredGroup>,
}

/// A group that is sampled and scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredGroup {
    /// Its completions, with log-probabilities and versions.
    pub completions: Vec<Completion>,
    /// Their rewards, aligned.
    pub rewards: Vec<Reward>,
}

impl StoredQueue {
    /// What `folder`, a checkpoint, holds; `None` where nothing was ahead.
    ///
    /// # Errors
    /// A file that does not say it.
    pub fn read(folder: &Path) -> Result<Option<Self>, TrainError> {
        let path = folder.join("trainer").join(AHEAD);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(TrainError::io(&path))?;
        let stored = serde_json::from_slice(&bytes);
        stored.map(Some).map_err(|error| {
            TrainError::Input(format!(
                "checkpoint {} is damaged: trainer/{AHEAD}: {error}",
                folder.display()
            ))
        })
    }

    /// The text of a checkpoint's file, with what all ranks have, on the leader; `None` where nothing is ahead.
    ///
    /// # Errors
    /// What cannot be said in JSON; a lost rank.
    pub(crate) fn text(self, ranks: &Ranks) -> Result<Option<String>, TrainError> {
        let own = self;
        if own.batches.is_empty() {
            return Ok(None);
        }
        let wrong = |error: serde_json::Error| TrainError::Other(format!("batches ahead: {error}"));
        let bytes = serde_json::to_vec(&own).map_err(wrong)?;
        if ranks.size() == 1 {
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
        let mut all: Option<StoredQueue> = None;
        for part in ranks.gather_to_leader(&bytes)? {
            let part: StoredQueue = serde_json::from_slice(&part).map_err(wrong)?;
            match &mut all {
                None => all = Some(part),
                Some(all) => {
                    for (all, part) in all.batches.iter_mut().zip(part.batches) {
                        all.groups.extend(part.groups);
                    }
                }
            }
        }
        all.map(|all| serde_json::to_string(&all).map_err(wrong))
            .transpose()
    }
}
