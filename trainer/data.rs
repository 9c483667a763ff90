//! A run's data, opened and checked row by row for what its stages and tasks need.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indexmap::IndexMap;
use models::image::Rgb8;
use rewards::ImageSource;
use rollout::data::{Catalog, Draw, Example, Indexing, RowUse, SourceConfig, Split, Talk};
use rollout::prompt::{PICTURE, PromptError, Prompter, RowDemands};
use rollout::template::ChatTemplate;

use crate::TrainError;
use crate::config::{Config, StageConfig, TaskConfig, TaskType, scoring};

/// Opens the sources; `indexing` hears of long scans. A bad row is one whose picture is not there or says no size,
/// whose reference SVG its task could not draw, which a template of its task cannot be filled with, or which lacks
/// what the stages that use its source need: a target to imitate, a reference to compare with.
///
/// # Errors
/// A bad row unless rows are skipped, an unreadable file, a malformed template.
pub fn open_catalog(config: &Config, indexing: &mut Indexing) -> Result<Catalog, TrainError> {
    let first = config.tasks.keys().next();
    let first = first.map(String::as_str).unwrap_or_default();
    let machine = Arc::new(OnceLock::new());
    let chat = chat_template(config);
    let tasks = config.tasks.iter().map(|(name, task)| {
        let asks = task.prompt_config();
        let demands = RowDemands::new(&asks)
            .map_err(|error| TrainError::Input(format!("tasks.{name}.{error}")))?;
        // A prompter that cannot be made is told where prompts are.
        let prompter = chat.as_ref().and_then(|chat| {
            let prompter = Prompter::new(&asks, chat.as_ref(), config.seed).ok()?;
            Some(prompter.with_pictures(PICTURE, false))
        });
        let demands = TaskDemands {
            kind: task.task_type,
            demands,
            prompter,
        };
        Ok((name.clone(), demands))
    });
    let tasks: IndexMap<String, TaskDemands> = tasks.collect::<Result<_, TrainError>>()?;
    let inserted = tasks
        .iter()
        .map(|(name, task)| (name.clone(), task.demands.inserted()));
    let own = |(_, task): &(&String, &TaskConfig)| task.system.is_some();
    let systems = config.tasks.iter().filter(own);
    let rows = RowUse {
        inserted: inserted.collect(),
        systems: systems.map(|(name, _)| name.clone()).collect(),
        check: Arc::new(row_check(config, tasks, machine.clone())),
    };
    let base = (Path::new(""), first);
    let catalog = Catalog::open_checked(&config.data, base, rows, indexing);
    match machine.get() {
        // No row is to blame, and none may be left out for it.
        Some(why) => Err(TrainError::Other(why.clone())),
        None => Ok(catalog?),
    }
}

/// What a task asks of its rows.
struct TaskDemands {
    kind: TaskType,
    demands: RowDemands,
    /// Asks them as the policy is asked, where its folder is at hand.
    prompter: Option<Prompter>,
}

/// The policy's chat template, if it has one; `None` where its folder is not at hand.
fn chat_template(config: &Config) -> Option<Option<Arc<ChatTemplate>>> {
    let folder = config.model.tokenizer_folder()?;
    let there = folder.join("tokenizer.json").exists();
    let chat = ChatTemplate::load(folder).ok().filter(|_| there)?;
    Some(chat.map(Arc::new))
}

/// Whether a reference can be drawn; where the machine has no thread for it just now, later. `machine` keeps why it
/// never had.
fn drawable(
    source: &str,
    render: &svg::RenderConfig,
    machine: &OnceLock<String>,
) -> Result<(), String> {
    const TRIES: u64 = 8;
    let mut pauses = (0..TRIES).map(|power| Duration::from_millis(20 << power));
    loop {
        let failure = match svg::check(source, render) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if failure.reason == svg::Reason::WorkerUnavailable {
            match pauses.next().filter(|_| machine.get().is_none()) {
                Some(pause) => std::thread::sleep(pause),
                None => {
                    machine.get_or_init(|| failure.to_string());
                    return Err(failure.to_string());
                }
            }
            continue;
        }
        return Err(format!("the reference SVG cannot be drawn: {failure}"));
    }
}

/// What is wrong with a row of a source for a task.
fn row_check(
    config: &Config,
    demands: IndexMap<String, TaskDemands>,
    machine: Arc<OnceLock<String>>,
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
        row.images
            .iter()
            .chain(&reference.image)
            .try_for_each(check_picture)?;
        if let Some(demands) = demands.get(task) {
            demands.check(task, row)?;
        }
        let none = RowNeeds::default();
        let needs = needs.get(source).unwrap_or(&none);
        if needs.target && row.target.is_none() {
            return Err("target: needed by supervised training (or svg, or text)".into());
        }
        if needs.pair {
            check_pair(row)?;
        }
        for task in needs.scored_by.iter().filter_map(|task| tasks.get(task)) {
            if let Some(lack) = task.rubric.missing(reference) {
                return Err(lack);
            }
        }
        let Some(task) = tasks.get(task) else {
            return Ok(());
        };
        if let Some(lack) = task.rubric.missing(reference).filter(|_| needs.reference) {
            return Err(lack);
        }
        match &reference.svg {
            Some(source) => drawable(source, &task.render, &machine),
            None => Ok(()),
        }
    }
}

/// Refuses a row that is no pair of different answers.
fn check_pair(row: &Example) -> Result<(), String> {
    let rejected = row.rejected().ok_or(
        "rejected: algorithm: dpo needs pairs of a chosen and a rejected answer (format: dpo has them)",
    )?;
    match (&rejected.target, &rejected.talk.answer) == (&row.target, &row.talk.answer) {
        true => Err(
            "keys `chosen` and `rejected` are the same answer: there is nothing to prefer".into(),
        ),
        false => Ok(()),
    }
}

/// Refuses a picture that is not there, is none, or is cut off.
fn check_picture(image: &ImageSource) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| match image {
        ImageSource::Path(path) => format!("image {}: {error}", path.display()),
        ImageSource::Png(_) => format!("image: {error}"),
    };
    let bytes = image.read().map_err(|error| named(&error))?;
    Rgb8::sides(&bytes).map_err(|error| named(&error))?;
    svg::Raster::check_whole(&bytes).map_err(|error| named(&error))?;
    // Decoded by every rank, so that all leave out the same rows.
    Rgb8::decode(&bytes).map_err(|error| named(&error))?;
    Ok(())
}

impl TaskDemands {
    /// Refuses a row that the task `name` cannot ask.
    fn check(&self, name: &str, row: &Example) -> Result<(), String> {
        if matches!(self.kind, TaskType::ImageToSvg | TaskType::SketchToSvg)
            && row.images.is_empty()
        {
            return Err(format!(
                "tasks.{name} shows a picture, and the row has none under `images` (fields: {{images: KEY}} maps \
                 the key that holds it)"
            ));
        }
        let of_template = |problem: String| match problem.starts_with("templates") {
            true => format!("tasks.{name}.{problem}"),
            false => problem,
        };
        self.demands.check(row).map_err(of_template)?;
        // A single question in words is never too much for a chat template.
        let plain = Talk {
            whole_question: row.talk.whole_question,
            ..Talk::default()
        };
        let Some(prompter) = self.prompter.as_ref().filter(|_| row.talk != plain) else {
            return Ok(());
        };
        let draw = Draw {
            example: row.clone(),
            draw: 0,
            bucket: None,
        };
        let asked = prompter.text(&draw).and_then(|_| prompter.answer(&draw));
        asked.map(drop).map_err(|error| match error {
            PromptError::Turns { problem, .. } | PromptError::Lost { problem, .. } => problem,
            other => other.to_string(),
        })
    }
}

/// What the stages need of a source's rows.
#[derive(Debug, Clone, Default)]
struct RowNeeds {
    /// A text that supervised training imitates.
    target: bool,
    /// A rejected answer beside it.
    pair: bool,
    /// What the task's rewards compare with.
    reference: bool,
    /// Other tasks whose rubrics score it.
    scored_by: Vec<String>,
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
            needs.pair |= trains && asked.pair;
            let pairs = stage.algorithm.options().pairs().filter(|_| trains);
            needs
                .scored_by
                .extend(pairs.and_then(|pairs| pairs.rubric.clone()));
            needs.reference |= (trains && asked.reference) || evaluates;
        }
        needs
    }
}

/// What was left out of the data: keys that nothing uses, rows by their length, bad rows with the first few of them.
pub fn left_out(catalog: &Catalog) -> Vec<String> {
    const SHOWN: usize = 20;
    let mut lines = Vec::new();
    for source in catalog.summary() {
        if !source.unused.is_empty() {
            lines.push(format!(
                "source {}: not used: {}",
                source.name,
                source.unused.join(", ")
            ));
        }
        if source.filtered > 0 {
            lines.push(format!(
                "source {}: {} rows left out by min_length and max_length",
                source.name, source.filtered
            ));
        }
        if source.videos > 0 {
            lines.push(format!(
                "source {}: {} rows with videos left out (videos: skip)",
                source.name, source.videos
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
