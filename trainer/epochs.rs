//! A stage's epochs as steps, once its rows are counted.

use rollout::data::Catalog;

use crate::TrainError;
use crate::config::{Config, StageConfig};
use crate::data::open_catalog;

/// Gives every stage of `config` that is as long as its `epochs` the steps that they come to; says them, a line each.
/// Its data is read where a stage has epochs.
///
/// # Errors
/// Data that cannot be opened; steps beside epochs that do not come to them.
pub fn settle_steps(config: &mut Config) -> Result<Vec<String>, TrainError> {
    let mut stages = config.stages.iter();
    if stages.all(|stage| stage.common.epochs.is_none()) {
        return Ok(Vec::new());
    }
    let catalog = open_catalog(config, &mut |_, _, _| {})?;
    count_steps(config, &catalog)
}

/// [`settle_steps`] of a config whose data is open.
///
/// # Errors
/// Steps beside epochs that do not come to them.
pub(crate) fn count_steps(
    config: &mut Config,
    catalog: &Catalog,
) -> Result<Vec<String>, TrainError> {
    let mut lines = Vec::new();
    for (index, stage) in config.stages.iter_mut().enumerate() {
        let Some(epochs) = stage.common.epochs else {
            continue;
        };
        let (rows, size) = (rows(stage, catalog), stage.common.batch.size);
        let steps = steps(epochs, rows, size);
        let asked = format!("{epochs} epochs of {rows} rows at {size} a step");
        // A resolved config says both.
        let given = stage.common.steps;
        if given != 0 && given != steps {
            return Err(TrainError::Input(format!(
                "stages.{index}.epochs: {asked} come to {steps} steps, and `steps` says {given}: give one of the two"
            )));
        }
        stage.common.steps = steps;
        lines.push(format!("stage {}: {asked}: {steps} steps", stage.name()));
    }
    Ok(lines)
}

/// Rows that the stage draws from.
fn rows(stage: &StageConfig, catalog: &Catalog) -> usize {
    let sources = &stage.common.curriculum.sources;
    let summary = catalog.summary().into_iter();
    let drawn = summary.filter(|source| sources.is_empty() || sources.contains(&source.name));
    let rows = drawn.map(|source| source.train).sum();
    // Of pairs that the stage makes itself there is one for each prompt at most.
    match stage.algorithm.options().pairs() {
        Some(pairs) if pairs.prompts > 0 => pairs.prompts,
        _ => rows,
    }
}

/// Steps of `size` draws in which at least `epochs` times `rows` are drawn; at least one.
fn steps(epochs: f64, rows: usize, size: usize) -> u64 {
    let steps = epochs * rows as f64 / size.max(1) as f64;
    // A product that is whole but for its rounding is whole.
    let slack = steps * 1e-12;
    ((steps - slack).ceil() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_of_an_epoch_is_begun_when_rows_are_left() {
        assert_eq!(steps(3.0, 14_100, 128), 331);
        assert_eq!(steps(1.0, 128, 128), 1);
        assert_eq!(steps(1.0, 129, 128), 2);
        assert_eq!(steps(0.5, 128, 8), 8);
        // 0.1 * 30 is a little more than 3.
        assert_eq!(steps(0.1, 30, 3), 1);
        assert_eq!(steps(0.01, 10, 8), 1);
    }
}
