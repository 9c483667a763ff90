//! Where a run starts: rank 0 chooses the checkpoint and compares what it was made of; the others check that they
//! see the same files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::RunOptions;
use crate::TrainError;
use crate::agreement::{decide, see_the_same};
use crate::checkpoint::{Checkpoint, Provenance};
use crate::config::Config;
use crate::inputs::Change;
use crate::learn::{PhaseKind, Ranks};
use crate::resume::{self, Chosen, Comparison};
use crate::run_lock::RunLock;

/// Where a run starts.
#[derive(Debug)]
pub(super) struct Start {
    /// The checkpoint to continue from, if there is one.
    pub(super) checkpoint: Option<Checkpoint>,
    /// What is not as the checkpoint has it, and is accepted.
    pub(super) changes: Vec<Change>,
    /// What people should know.
    pub(super) notices: Vec<String>,
    /// What the run is made of.
    pub(super) provenance: Provenance,
    /// What its steps are to those who wait for a rank.
    pub(super) step_kind: PhaseKind,
}

/// What rank 0 tells the others.
#[derive(Debug, Serialize, Deserialize)]
struct Decision {
    /// Within the run folder.
    checkpoint: Option<PathBuf>,
    changes: Vec<Change>,
    notices: Vec<String>,
    /// What stands in the run folder's lock, where other ranks read from the folder too.
    lock: Option<String>,
}

impl Start {
    /// Chooses and compares, for all ranks alike.
    ///
    /// # Errors
    /// A damaged checkpoint, one of something else, a folder that not all ranks see.
    pub(super) fn find(
        config: &Config,
        options: &RunOptions,
        ranks: &Ranks,
        provenance: Provenance,
    ) -> Result<Self, TrainError> {
        let mut own = None;
        let decision = decide(ranks, || {
            let Chosen {
                checkpoint,
                copied,
                notices,
            } = resume::choose(options.folder, config, &options.resume)?;
            let mut changes = Vec::new();
            if let Some(checkpoint) = &checkpoint {
                let comparison = Comparison {
                    run: options.folder,
                    checkpoint,
                    now: &provenance,
                    accepted: options.accept,
                    copied,
                };
                changes = comparison.accepted()?;
            }
            let inner = checkpoint
                .as_ref()
                .map(|found| within(&found.path, options.folder));
            own = checkpoint;
            let shared = ranks.size() > 1 && config.stages.len() > 1;
            Ok(Decision {
                checkpoint: inner,
                changes,
                notices,
                lock: shared.then(|| RunLock::text(options.folder)).flatten(),
            })
        })?;
        if let Some(lock) = &decision.lock {
            let seen = sees(options.folder, lock);
            see_the_same(ranks, options.folder, Some(u32::from(seen)))?;
        }
        if ranks.size() > 1
            && let Some(inner) = &decision.checkpoint
        {
            let path = options.folder.join(inner);
            if !ranks.is_leader() {
                own = Checkpoint::open(&path).ok();
            }
            see_the_same(ranks, &path, own.as_ref().map(|found| found.sum))?;
        }
        Ok(Self {
            checkpoint: own,
            changes: decision.changes,
            notices: decision.notices,
            provenance,
            step_kind: PhaseKind::Step,
        })
    }
}

/// Whether the folder is the one whose lock holds `text`; a network file system may show it a little later.
fn sees(folder: &Path, text: &str) -> bool {
    const TRIES: u32 = 20;
    (0..TRIES).any(|_| {
        let seen = RunLock::text(folder).is_some_and(|found| found == text);
        if !seen {
            std::thread::sleep(Duration::from_millis(500));
        }
        seen
    })
}

/// `path` relative to the run folder.
fn within(path: &Path, folder: &Path) -> PathBuf {
    let (path, folder) = (crate::files::real(path), crate::files::real(folder));
    match path.strip_prefix(&folder) {
        Ok(inner) => inner.to_owned(),
        Err(_) => path,
    }
}
