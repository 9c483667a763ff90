//! Looking at a run without starting it: inputs, sizes, memory.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use models::Tokenizer;
use models::image::Rgb8;
use rewards::ImageSource;
use rollout::data::{Catalog, Cursor, Example, Indexing, SourceConfig, Split};
use rollout::template::ChatTemplate;

use crate::TrainError;
use crate::config::{Config, Dtype, StageConfig};
use crate::memory::TrainingMemory;
use crate::prompts::Prompts;

/// Opens what a config names, without loading weights: tokenizer, templates, data, and the first
/// prompt of every source's task. Gives what was left out of the data, a line each.
///
/// # Errors
/// The first thing that `run` would refuse.
pub fn check_inputs(config: &Config) -> Result<Vec<String>, TrainError> {
    let (catalog, tokenizer) = inputs(config)?;
    let (rows, tokens) = (
        config.model.shape(&tokenizer)?.vocab_size,
        tokenizer.len() as i64,
    );
    match rows < tokens {
        true => Err(TrainError::Input(format!(
            "model: {rows} embedding rows for a tokenizer of {tokens} ids"
        ))),
        false => Ok(crate::run::left_out(&catalog)),
    }
}

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
    let needs: HashMap<String, Needs> = config
        .data
        .sources
        .iter()
        .map(|(name, source)| (name.clone(), Needs::of(name, source, config)))
        .collect();
    let tasks = crate::scoring(&config.tasks);
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
struct Needs {
    /// A text that supervised training imitates.
    target: bool,
    /// What the task's rewards compare with.
    reference: bool,
}

impl Needs {
    fn of(name: &str, source: &SourceConfig, config: &Config) -> Self {
        let trains = source.split() == Split::Train;
        let mut needs = Self::default();
        let uses = |stage: &&StageConfig| {
            let sources = &stage.curriculum().sources;
            sources.is_empty() || sources.iter().any(|used| used == name)
        };
        for stage in config.stages.iter().filter(uses) {
            let evaluates = source.holds_out() && stage.eval().prompts > 0;
            match stage {
                StageConfig::Sft(_) => needs.target |= trains,
                StageConfig::Grpo(_) => needs.reference |= trains,
            }
            needs.reference |= evaluates;
        }
        needs
    }
}

fn inputs(config: &Config) -> Result<(Arc<Catalog>, Tokenizer), TrainError> {
    let folder = config
        .model
        .tokenizer_folder()
        .ok_or_else(|| TrainError::Input("model: a tokenizer folder is needed".into()))?;
    let tokenizer = Tokenizer::read(folder)?;
    let chat = ChatTemplate::load(folder).map_err(|error| TrainError::Input(error.to_string()))?;
    let catalog = Arc::new(open_catalog(config, &mut |_, _, _| {})?);
    let prompts = Prompts::new(&config.tasks, &tokenizer, chat.as_ref(), config.seed)?
        .with_vision(config.model.shape(&tokenizer)?.vision);
    for (index, stage) in config.stages.iter().enumerate() {
        let mut cursor = Cursor::new(catalog.clone(), stage.curriculum(), config.seed)
            .map_err(|error| error.within(&format!("stages.{index}")))?;
        for draw in cursor.next(config.data.sources.len())? {
            prompts.prompt(&draw)?;
        }
    }
    drop(prompts);
    Ok((catalog, tokenizer))
}

/// What a run will do and need, for people.
///
/// # Errors
/// Whatever [`check_inputs`] refuses.
pub fn plan(config: &Config) -> Result<String, TrainError> {
    let (catalog, tokenizer) = inputs(config)?;
    let shape = config.model.shape(&tokenizer)?;
    let parameters = shape.parameters() as f64;
    let width = if config.dtype == Dtype::Bfloat16 {
        2.0
    } else {
        4.0
    };
    let mut out = String::from("plan\n");
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<28} {text}");
    };
    let frozen = &config.model.freeze;
    let memory = TrainingMemory::of(&shape, frozen, config.dtype);
    line("parameters", format!("{:.1} M", parameters / 1e6));
    if !frozen.is_empty() {
        let learn = shape.parameters_without(frozen) as f64;
        line("parameters that learn", format!("{:.1} M", learn / 1e6));
    }
    line("memory: weights", gib(memory.weights as f64));
    line("memory: gradients", gib(memory.gradients as f64));
    line("memory: optimizer", gib(memory.optimizer as f64));
    for source in catalog.summary() {
        line(
            &format!("data: {}", source.name),
            format!(
                "{} rows to train on, {} held out, {} left out by length, task {}",
                source.train, source.held_out, source.filtered, source.task
            ),
        );
    }
    for stage in &config.stages {
        let name = format!("stage: {}", stage.name());
        match stage {
            StageConfig::Sft(sft) => line(
                &name,
                format!(
                    "sft, {} steps of {} sequences, at most {} tokens a step",
                    sft.steps,
                    sft.batch.size,
                    sft.batch.size * sft.max_tokens
                ),
            ),
            StageConfig::Grpo(grpo) => {
                let completions = grpo.batch.size * grpo.rollout.group_size;
                line(
                    &name,
                    format!(
                        "grpo, {} steps of {} prompts x {} completions, at most {} new tokens a step",
                        grpo.steps,
                        grpo.batch.size,
                        grpo.rollout.group_size,
                        completions * grpo.rollout.max_new_tokens
                    ),
                );
                let slots = if grpo.rollout.slots == 0 {
                    completions
                } else {
                    grpo.rollout.slots.min(completions)
                };
                let rollout = &grpo.rollout;
                let prompt = rollout.max_prompt_tokens.min(shape.max_positions as usize);
                // A group's prompt once, and each completion.
                let tokens = grpo.batch.size.min(slots) * prompt + slots * rollout.max_new_tokens;
                let cache = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim;
                line(
                    "memory: KV cache, at most",
                    gib(tokens as f64 * cache as f64 * width),
                );
                if grpo.kl.coefficient != 0.0 {
                    line("memory: reference policy", gib(parameters * width));
                }
            }
        }
    }
    Ok(out)
}

fn gib(bytes: f64) -> String {
    format!("{:.2} GiB", bytes / f64::from(1u32 << 30))
}
