//! Rows of the files of samples, and which of the files a page is made of.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde::Deserialize;

use super::error::ReportError;

/// One completion as a page needs it; what an older run did not write is empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ReportRow {
    pub(super) prompt_id: String,
    pub(super) task: String,
    pub(super) index: usize,
    /// As the policy saw it.
    pub(super) prompt: String,
    /// The user's words.
    pub(super) reward_prompt: String,
    pub(super) completion: String,
    pub(super) token_ids: Vec<i64>,
    /// A log-probability that is no number is null.
    pub(super) sampler_logprobs: Vec<Option<f32>>,
    /// Of an answer that was learnt from, in the place of the sampler's.
    pub(super) learner_logprobs: Vec<Option<f32>>,
    pub(super) loss: Option<f64>,
    /// Which of a pair's answers it is.
    pub(super) chosen: Option<bool>,
    pub(super) draft: Option<String>,
    pub(super) finish_reason: String,
    /// None where nothing was judged: an answer that was learnt from.
    pub(super) valid: Option<bool>,
    pub(super) reason: Option<String>,
    pub(super) parts: IndexMap<String, Option<f64>>,
    pub(super) total: Option<f64>,
    pub(super) advantage: Option<f64>,
    pub(super) unscored: Vec<String>,
    pub(super) reference: Reference,
    /// What the prompt shows; on the first row of a group.
    pub(super) images: Vec<ImageSource>,
}

impl ReportRow {
    /// Whether it is a given answer that a step has learnt from, not a completion.
    pub(super) fn is_learnt(&self) -> bool {
        !self.learner_logprobs.is_empty()
    }

    /// Log-probabilities of its tokens.
    pub(super) fn logprobs(&self) -> &[Option<f32>] {
        match self.is_learnt() {
            true => &self.learner_logprobs,
            false => &self.sampler_logprobs,
        }
    }
}

/// Reads the lines of a JSONL file; a broken last line is passed over, another one is an error.
pub(super) fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>, ReportError> {
    let bytes = std::fs::read(path).map_err(|source| ReportError::File {
        path: path.to_owned(),
        source,
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut rows = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(row) => rows.push(row),
            Err(_) if line.trim().is_empty() || index + 1 == lines.len() => {}
            Err(error) => {
                return Err(ReportError::Line {
                    path: path.to_owned(),
                    line: index + 1,
                    problem: error.to_string(),
                });
            }
        }
    }
    Ok(rows)
}

/// The steps whose samples lie in `folder`, in order.
pub(super) fn steps(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_str()?;
            let step = name.strip_prefix("step_")?.strip_suffix(".jsonl")?;
            Some((step.parse().ok()?, path))
        })
        .collect();
    files.sort();
    files
}

/// The folders below a stage's `eval/`, by the names of their sets.
pub(super) fn sets(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sets: Vec<(String, PathBuf)> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    sets.sort();
    sets
}

/// `most` of `all`, evenly spread, the first and the last among them.
pub(super) fn spread<T>(all: Vec<T>, most: usize) -> Vec<T> {
    let count = all.len();
    if count <= most || most < 2 {
        return all.into_iter().rev().take(most).rev().collect();
    }
    let chosen: Vec<usize> = (0..most).map(|at| at * (count - 1) / (most - 1)).collect();
    let kept = all.into_iter().enumerate();
    kept.filter(|(at, _)| chosen.contains(at))
        .map(|(_, one)| one)
        .collect()
}
