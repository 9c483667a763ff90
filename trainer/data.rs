//! A run's data, opened and checked row by row for what its stages and tasks need.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use models::image::Rgb8;
use rewards::ImageSource;
use rollout::data::{Catalog, Example, Indexing, SourceConfig, Split};

use crate::TrainError;
use crate::config::{Config, StageConfig, scoring};

/// Opens the sources; `indexing` hears of long scans. A bad row is one whose picture is not there or says no size,
/// whose reference SVG its task could not draw, or which lacks what the stages that use its source
/// need: a target to imitate, a reference to compare with.
///
/// # Errors
/// A bad row unless rows are skipped, an unreadable file.
pub fn open_catalog(config: &Config, indexing: &mut Indexing) -> Result<Catalog, TrainError> {
    let first = config.tasks.keys().next();
    let first = first.map(String::as_str).unwrap_or_default();
    let check = Arc::new(row_check(config));
    let base = (Path::new(""), first);
    Ok(Catalog::open_checked(&config.data, base, check, indexing)?)
}

/// What is wrong with a row of a source for a task.
fn row_check(
    config: &Config,
) -> impl Fn(&str, &str, &Example) -> Result<(), String> + Send + Sync + 'static {
    let needs: HashMap<String, RowNeeds> = config
        .data
        .sources
        .iter()
        .map(|(name, source)| (name.clone(), RowNeeds::of(name, source, config)))
        .collect();
    let tasks = scoring(&config.tasks);
    move |source: &str, task: &str, row: &Example| {
        let reference = &row.reference;
        for image in row.images.iter().chain(&reference.image) {
            let named = |error: &dyn std::fmt::Display| match image {
                ImageSource::Path(path) => format!("image {}: {error}", path.display()),
                ImageSource::Png(_) => format!("image: {error}"),
            };
            let bytes = image.read().map_err(|error| named(&error))?;
            Rgb8::sides(&bytes).map_err(|error| named(&error))?;
            svg::Raster::check_whole(&bytes).map_err(|error| named(&error))?;
            // Decoded by every rank, so that all leave out the same rows.
            Rgb8::decode(&bytes).map_err(|error| named(&error))?;
        }
        let needs = needs.get(source).copied().unwrap_or_default();
        if needs.target && row.target.is_none() {
            return Err("target: needed by supervised training (or svg, or text)".into());
        }
        let Some(task) = tasks.get(task) else {
            return Ok(());
        };
        if let Some(lack) = task.rubric.missing(reference).filter(|_| needs.reference) {
            return Err(lack);
        }
        match &reference.svg {
            Some(source) => svg::check(source, &task.render)
                .map_err(|failure| format!("the reference SVG cannot be drawn: {failure}")),
            None => Ok(()),
        }
    }
}

/// What the stages need of a source's rows.
#[derive(Debug, Clone, Copy, Default)]
struct RowNeeds {
    /// A text that supervised training imitates.
    target: bool,
    /// What the task's rewards compare with.
    reference: bool,
}

impl RowNeeds {
    fn of(name: &str, source: &SourceConfig, config: &Config) -> Self {
        let trains = source.split() == Split::Train;
        let mut needs = Self::default();
        let uses = |stage: &&StageConfig| {
            let sources = &stage.common.curriculum.sources;
            sources.is_empty() || sources.iter().any(|used| used == name)
        };
        for stage in config.stages.iter().filter(uses) {
            let evaluates = source.holds_out() && stage.common.eval.prompts > 0;
            let asked = stage.algorithm.options().needs();
            needs.target |= trains && asked.target;
            needs.reference |= (trains && asked.reference) || evaluates;
        }
        needs
    }
}

/// What was left out of the data: rows by their length, bad rows with the first few of them.
pub fn left_out(catalog: &Catalog) -> Vec<String> {
    const SHOWN: usize = 20;
    let mut lines = Vec::new();
    for source in catalog.summary() {
        if source.filtered > 0 {
            lines.push(format!(
                "source {}: {} rows left out by min_length and max_length",
                source.name, source.filtered
            ));
        }
    }
    let skipped = catalog.skipped();
    for row in skipped.iter().take(SHOWN) {
        lines.push(format!("source {}: bad row left out: {row}", row.source));
    }
    if !skipped.is_empty() {
        lines.push(format!("bad rows left out: {}", skipped.len()));
    }
    lines
}
