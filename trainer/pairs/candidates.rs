//! The candidates of a making beside what their prompts were after: data of drafts, critiques and corrections.

use std::sync::Arc;

use rewards::Reference;
use rollout::data::{CurriculumConfig, Cursor, Draw};
use serde_json::Value;

use super::command::{PairsJob, make_pairs};
use super::journal::PairJournal;
use super::row::CANDIDATES;
use crate::TrainError;
use crate::data::open_catalog;
use crate::learn::Ranks;

/// A valid candidate with its score, and what was asked for.
#[derive(Debug, Clone)]
pub struct ScoredCandidate {
    /// `<row's id>/<candidate's place>`.
    pub id: String,
    /// What was to be drawn, in words: the reference's, else the row's own.
    pub words: String,
    /// The completion.
    pub text: String,
    /// Its total.
    pub total: f64,
    /// What it is compared with.
    pub reference: Reference,
    /// What supervised training would imitate of the row.
    pub target: Option<String>,
}

/// Samples and scores candidates as [`make_pairs`] does, into the same journal; those that are valid and scored.
///
/// # Errors
/// As [`make_pairs`].
pub fn scored_candidates(
    job: &PairsJob,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<ScoredCandidate>, TrainError> {
    make_pairs(job, progress)?;
    let ranks = Ranks::single(job.device);
    let (journal, _) = PairJournal::open(job.out, &ranks)?;
    let catalog = Arc::new(open_catalog(job.config, &mut |_, _, _| {})?);
    let curriculum = match job.stage {
        Some(stage) => stage.common.curriculum.clone(),
        None => CurriculumConfig::default(),
    };
    // The same order as the making's: its rows are the draws, one by one.
    let mut cursor = Cursor::new(catalog, &curriculum, job.config.seed)?;
    let draws = cursor.next(journal.rows().len())?;
    let of_rows = draws.iter().zip(journal.rows());
    Ok(of_rows.flat_map(|(draw, row)| of_row(draw, row)).collect())
}

fn of_row(draw: &Draw, row: &Value) -> Vec<ScoredCandidate> {
    let example = &draw.example;
    let own = example.fields.get("prompt").map_or("", String::as_str);
    let words = example.reference.wish(own);
    let all = row[CANDIDATES].as_array().into_iter().flatten();
    let scored = all.enumerate().filter_map(|(at, candidate)| {
        let valid = candidate["valid"].as_bool()?;
        let total = candidate["total"].as_f64()?;
        valid.then(|| ScoredCandidate {
            id: format!("{}/{at}", example.id),
            words: words.to_owned(),
            text: candidate["text"].as_str().unwrap_or_default().to_owned(),
            total,
            reference: example.reference.clone(),
            target: example.target.clone(),
        })
    });
    scored.collect()
}
