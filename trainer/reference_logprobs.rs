//! What the reference policy says of a stage's pairs, computed once and kept in the run folder:
//! `RUN/reference/<stage>.jsonl`, first which policy it was, then a line for each step whose pairs were
//! not all known before it.
//!
//! A line is what one step adds, so that after a kill the same pairs are computed together again, and
//! the numbers are the same to the last bit.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::agreement::decide;
use crate::learn::{Ranks, Trajectory};
use crate::{TrainError, files};

/// What tells a pair from others: its prompt's tokens and pictures, and the tokens of its answers.
pub(crate) type PairKey = String;

/// Log-probabilities of the chosen and the rejected answer, summed over their tokens, natural log.
pub(crate) type PairLogprobs = [f64; 2];

/// The first line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// Digest of the reference policy's weights.
    policy: String,
}

/// What a step adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepLogprobs {
    /// The step, from 1.
    pub(crate) step: u64,
    /// Pairs that no earlier step had.
    pub(crate) pairs: Vec<(PairKey, PairLogprobs)>,
}

/// The known log-probabilities of a stage's pairs under its reference policy.
#[derive(Debug)]
pub struct ReferenceLogprobs {
    path: PathBuf,
    /// On rank 0, once something was added.
    file: Option<File>,
    policy: Option<String>,
    pairs: HashMap<PairKey, PairLogprobs>,
    steps: HashSet<u64>,
}

impl ReferenceLogprobs {
    /// Reads what `run` holds of `stage`, for all ranks alike; a torn last line is cut off.
    ///
    /// # Errors
    /// A file that cannot be read; a lost rank.
    pub(crate) fn open(run: &Path, stage: &str, ranks: &Ranks) -> Result<Self, TrainError> {
        let path = run.join("reference").join(format!("{stage}.jsonl"));
        let (policy, lines) = decide(ranks, || read(&path))?;
        let mut known = Self {
            path,
            file: None,
            policy,
            pairs: HashMap::new(),
            steps: HashSet::new(),
        };
        lines.into_iter().for_each(|line| known.take(line));
        Ok(known)
    }

    /// Whether every pair of a step is known.
    pub(crate) fn covers(&self, step: u64) -> bool {
        self.steps.contains(&step)
    }

    /// The log-probabilities of a pair.
    pub(crate) fn get(&self, key: &PairKey) -> Option<PairLogprobs> {
        self.pairs.get(key).copied()
    }

    /// Takes the policy whose digest is `digest` for the reference policy: what another one said is
    /// forgotten where the stage begins (`fresh`).
    ///
    /// # Errors
    /// Another policy's numbers in the middle of a stage.
    pub(crate) fn begin(&mut self, digest: &str, fresh: bool) -> Result<(), TrainError> {
        match &self.policy {
            Some(policy) if policy == digest => return Ok(()),
            Some(_) if !fresh => {
                return Err(TrainError::Input(format!(
                    "{} is of another reference policy than the stage began with: start over with --resume never, or take the file away to have it computed anew",
                    self.path.display()
                )));
            }
            _ => {}
        }
        self.policy = Some(digest.to_owned());
        self.file = None;
        self.pairs.clear();
        self.steps.clear();
        Ok(())
    }

    /// Adds what a step has, on all ranks: each gives its own pairs, rank 0 writes those that are new.
    ///
    /// # Errors
    /// Whatever the file system says; a lost rank.
    pub(crate) fn add(
        &mut self,
        step: u64,
        own: &[(PairKey, PairLogprobs)],
        ranks: &Ranks,
    ) -> Result<(), TrainError> {
        let wrong = |error: serde_json::Error| TrainError::Other(error.to_string());
        let parts = ranks.gather_to_leader(&serde_json::to_vec(own).map_err(wrong)?)?;
        let line = decide(ranks, || {
            let mut line = StepLogprobs {
                step,
                pairs: Vec::new(),
            };
            let mut seen = HashSet::new();
            for part in parts {
                let part: Vec<(PairKey, PairLogprobs)> =
                    serde_json::from_slice(&part).map_err(wrong)?;
                let new = part.into_iter().filter(|(key, _)| seen.insert(key.clone()));
                line.pairs.extend(new);
            }
            self.write(&line)?;
            Ok(line)
        })?;
        self.take(line);
        Ok(())
    }

    fn take(&mut self, line: StepLogprobs) {
        self.steps.insert(line.step);
        self.pairs.extend(line.pairs);
    }

    fn write(&mut self, line: &StepLogprobs) -> Result<(), TrainError> {
        let Self {
            path,
            file,
            policy,
            steps,
            ..
        } = self;
        let wrong = |error: serde_json::Error| TrainError::Other(error.to_string());
        if file.is_none() {
            files::make_folder(files::parent(path))?;
            if steps.is_empty() {
                let header = Header {
                    policy: policy.clone().unwrap_or_default(),
                };
                let text = format!("{}\n", serde_json::to_string(&header).map_err(wrong)?);
                files::write_whole(path, text.as_bytes())?;
            }
            *file = Some(files::open_log(path)?);
        }
        let text = format!("{}\n", serde_json::to_string(line).map_err(wrong)?);
        match file {
            Some(file) => file
                .write_all(text.as_bytes())
                .map_err(TrainError::io(&*path)),
            None => Ok(()),
        }
    }

    /// Makes what was added durable.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        let synced = self.file.as_ref().map(File::sync_all).transpose();
        synced.map(drop).map_err(TrainError::io(&self.path))
    }
}

/// The policy and the whole lines of a file; nothing where there is none. What follows the last whole line
/// is cut off.
fn read(path: &Path) -> Result<(Option<String>, Vec<StepLogprobs>), TrainError> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok((None, Vec::new()));
    };
    let mut whole = 0;
    let mut policy = None;
    let mut lines = Vec::new();
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        match &policy {
            None => match serde_json::from_str::<Header>(line) {
                Ok(header) => policy = Some(header.policy),
                Err(_) => break,
            },
            Some(_) => match serde_json::from_str(line) {
                Ok(line) => lines.push(line),
                Err(_) => break,
            },
        }
        whole += line.len();
    }
    if whole < text.len() {
        let cut = || {
            let file = File::options().write(true).open(path)?;
            file.set_len(whole as u64)?;
            file.sync_all()
        };
        cut().map_err(TrainError::io(path))?;
    }
    Ok((policy, lines))
}

/// What tells the pair of two siblings from others.
pub(crate) fn pair_key(pair: &[Trajectory]) -> PairKey {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let bytes = |ids: &[i64]| {
        ids.iter()
            .flat_map(|id| id.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    if let Some(first) = pair.first() {
        part(&bytes(&first.prompt));
        for picture in first.view.iter().flat_map(|view| &view.images.pictures) {
            part(&picture.pixels);
        }
    }
    pair.iter().for_each(|answer| part(&bytes(&answer.ids)));
    let digest = hasher.finalize();
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn what_was_added_is_read_again_and_a_torn_line_is_not() {
        let run = tempfile::tempdir().unwrap();
        let ranks = Ranks::single(Device::Cpu);
        let open = || ReferenceLogprobs::open(run.path(), "dpo", &ranks).unwrap();
        let mut first = open();
        first.begin("a", true).unwrap();
        let value = [-1.0 / 3.0, -2e-7];
        first
            .add(1, &[("k".into(), value), ("k".into(), [0.0, 0.0])], &ranks)
            .unwrap();
        first.add(2, &[], &ranks).unwrap();
        first.sync().unwrap();
        let path = run.path().join("reference/dpo.jsonl");
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"step\": 3, \"pai")).unwrap();
        let again = open();
        assert_eq!(again.get(&"k".to_owned()), Some(value));
        assert!(again.covers(2) && !again.covers(3));
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn another_policy_starts_a_stage_over_and_cannot_go_on_in_one() {
        let run = tempfile::tempdir().unwrap();
        let ranks = Ranks::single(Device::Cpu);
        let open = || ReferenceLogprobs::open(run.path(), "dpo", &ranks).unwrap();
        let mut first = open();
        first.begin("a", true).unwrap();
        first.add(1, &[("k".into(), [1.0, 2.0])], &ranks).unwrap();
        assert!(open().begin("b", false).is_err());
        let mut over = open();
        over.begin("b", true).unwrap();
        assert_eq!(over.get(&"k".to_owned()), None);
        over.add(1, &[("l".into(), [3.0, 4.0])], &ranks).unwrap();
        let again = open();
        assert_eq!(again.get(&"k".to_owned()), None);
        assert_eq!(again.get(&"l".to_owned()), Some([3.0, 4.0]));
    }
}
