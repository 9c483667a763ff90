//! Scoring as work to measure: drawings of the built-in source, each a completion against the next one.

use std::sync::Arc;

use indexmap::IndexMap;
use rewards::rules::Mse;
use rewards::{
    Candidate, Reference, RewardConfig, RewardsConfig, RubricConfig, ScoreJob, Scorer, TaskScoring,
};
use rollout::data::{Catalog, CurriculumConfig, Cursor, DataConfig, ShapesConfig, SourceConfig};

use crate::TrainError;

/// `count` drawings of the built-in source.
///
/// # Errors
/// None in practice: the source is built in.
pub fn shapes(count: usize) -> Result<Vec<String>, TrainError> {
    let source = SourceConfig::Shapes(ShapesConfig {
        count,
        ..ShapesConfig::default()
    });
    let config = DataConfig {
        sources: IndexMap::from([("shapes".to_owned(), source)]),
        ..DataConfig::default()
    };
    let catalog = Arc::new(Catalog::open(&config, std::path::Path::new(""), "draw")?);
    let draws = Cursor::new(catalog, &CurriculumConfig::default(), 0)?.next(count)?;
    Ok(draws
        .into_iter()
        .filter_map(|draw| draw.example.reference.svg)
        .collect())
}

/// One task `draw` with the mean squared error at 224 pixels.
pub fn scoring_tasks() -> IndexMap<String, TaskScoring> {
    let rubric = RubricConfig {
        rewards: vec![RewardConfig::Mse(Mse::default())],
        ..RubricConfig::default()
    };
    let task = TaskScoring {
        completion: rewards::CompletionConfig::default(),
        render: svg::RenderConfig::default(),
        rubric,
        ..TaskScoring::default()
    };
    IndexMap::from([("draw".to_owned(), task)])
}

pub(super) fn scorer() -> Result<Scorer, TrainError> {
    Ok(Scorer::new(
        &RewardsConfig::default(),
        scoring_tasks(),
        None,
    )?)
}

/// Each of `sources` as a completion scored against the next one.
///
/// # Errors
/// The renderer's worker program is missing.
pub fn scoring_jobs(sources: &[String]) -> Result<(Scorer, Vec<ScoreJob>), TrainError> {
    let jobs = sources
        .iter()
        .enumerate()
        .map(|(index, source)| ScoreJob {
            key: index as u64,
            id: index.to_string(),
            task: "draw".into(),
            step: 0,
            measure: false,
            prompt: "".into(),
            reference: Arc::new(Reference {
                svg: Some(sources[(index + 1) % sources.len()].clone()),
                ..Reference::default()
            }),
            candidate: Candidate {
                text: source.clone(),
                truncated: false,
            },
        })
        .collect();
    Ok((scorer()?, jobs))
}
