//! Looking at a run without starting it: inputs, sizes, memory.

use std::fmt::Write as _;
use std::sync::Arc;

use models::svg_tokens::lacking_tokens;
use models::{DecoderConfig, ModelConfig, Tokenizer};
use rollout::data::{Catalog, Cursor, Draw, SourceSummary, Split};
use rollout::template::ChatTemplate;

use crate::TrainError;
use crate::config::{Config, Dtype, StageConfig};
use crate::data::{left_out, open_catalog};
use crate::epochs::count_steps;
use crate::memory::TrainingMemory;
use crate::policy_check;
use crate::prompt_builder::PromptBuilder;
use crate::stage_survey::{RowTokens, StageSurvey};

/// Rows of a source that are looked at.
const LOOKED_AT: usize = 1000;

/// What a config names, opened.
struct PlanInputs {
    /// With the steps that epochs come to.
    config: Config,
    catalog: Arc<Catalog>,
    shape: DecoderConfig,
    /// Numbers that learn beside the policy's weights, of each stage that has adapters.
    adapters: Vec<Option<i64>>,
    /// What is to be said of it.
    notes: Vec<String>,
}

/// Opens what a config names, without loading weights: tokenizer, templates, data, and the prompts of up to a
/// thousand rows of every source. Gives what was left out of the data, and what the stages make of the rows'
/// lengths, a line each.
///
/// # Errors
/// The first thing that `run` would refuse.
pub fn check_inputs(config: &Config) -> Result<Vec<String>, TrainError> {
    let inputs = inputs(config)?;
    Ok(inputs.notes)
}

fn inputs(config: &Config) -> Result<PlanInputs, TrainError> {
    let folder = config
        .model
        .tokenizer_folder()
        .ok_or_else(|| TrainError::Input("model: a tokenizer folder is needed".into()))?;
    let tokenizer = Arc::new(config.model.read_tokenizer()?);
    let chat = ChatTemplate::load(folder).map_err(|error| TrainError::Input(error.to_string()))?;
    let catalog = Arc::new(open_catalog(config, &mut |_, _, _| {})?);
    let mut config = config.clone();
    let epochs = count_steps(&mut config, &catalog)?;
    let config = &config;
    let chat = chat.map(Arc::new);
    let tasks = &config.tasks;
    let mut shape = config.model.shape(&tokenizer)?;
    let extended = extended_rows(&config.model, &tokenizer)?;
    shape.vocab_size = extended.unwrap_or(shape.vocab_size);
    let (rows, tokens) = (shape.vocab_size, tokenizer.len() as i64);
    if rows < tokens {
        return Err(TrainError::Input(format!(
            "model: {rows} embedding rows for a tokenizer of {tokens} ids"
        )));
    }
    let prompts = PromptBuilder::new(tasks, tokenizer.clone(), chat.as_ref(), config.seed)?
        .with_vision(shape.vision.clone());
    let mut longest = vec![0; config.stages.len()];
    for (index, stage) in config.stages.iter().enumerate() {
        let mut cursor = Cursor::new(catalog.clone(), &stage.common.curriculum, config.seed)
            .map_err(|error| error.within(&format!("stages.{index}")))?;
        for draw in cursor.next(config.data.sources.len())? {
            let tokens = prompts.prompt(&draw)?.ids.len();
            longest[index] = longest[index].max(tokens);
        }
    }
    let mut notes = left_out(&catalog);
    notes.extend(epochs);
    notes.extend(tasks_without_rows(config, &catalog));
    notes.extend(lengths(config, &catalog, &prompts)?);
    notes.extend(policy_check::told(config, &shape, &tokenizer, &longest)?);
    Ok(PlanInputs {
        config: config.clone(),
        catalog,
        adapters: adapters(config, &shape)?,
        shape,
        notes,
    })
}

/// Number of the adapters' weights of each stage that has any.
fn adapters(config: &Config, shape: &DecoderConfig) -> Result<Vec<Option<i64>>, TrainError> {
    let of = |stage: &StageConfig| {
        let Some(lora) = &stage.common.lora else {
            return Ok(None);
        };
        let said = |error| TrainError::Input(format!("stages.{}: {error}", stage.name()));
        shape.adapter_parameters(lora).map(Some).map_err(said)
    };
    config.stages.iter().map(of).collect()
}

/// The rows that embedding and head have with the tokens that a run adds, where it adds any.
fn extended_rows(model: &ModelConfig, tokenizer: &Tokenizer) -> Result<Option<i64>, TrainError> {
    let (Some(vocabulary), Some(path)) = (model.extend_tokens, &model.path) else {
        return Ok(None);
    };
    let lacking = lacking_tokens(path, vocabulary)?;
    Ok((lacking > 0).then_some(tokenizer.len() as i64))
}

/// A line for each task that no source has a row of.
fn tasks_without_rows(config: &Config, catalog: &Catalog) -> Vec<String> {
    let summary = catalog.summary();
    let has_rows = |task: &String| {
        let of = |source: &&SourceSummary| source.task == *task;
        let mut sources = summary.iter().filter(of);
        sources.any(|source| source.train + source.held_out > 0)
    };
    let without = config.tasks.keys().filter(|task| !has_rows(task));
    let line = |task: &String| {
        format!("tasks.{task}: no source has a row of it (data.sources.NAME.task: {task} would)")
    };
    without.map(line).collect()
}

/// Makes the prompts and targets of rows spread evenly over each source, and says what the stages' bounds on
/// lengths do to them.
fn lengths(
    config: &Config,
    catalog: &Catalog,
    prompts: &PromptBuilder,
) -> Result<Vec<String>, TrainError> {
    let mut stages: Vec<StageSurvey> = config.stages.iter().map(StageSurvey::of).collect();
    for (source, summary) in catalog.summary().iter().enumerate() {
        let all = summary.train + summary.held_out;
        let looked_at = all.min(LOOKED_AT);
        for row in (0..looked_at).map(|at| at * all / looked_at) {
            let place = match row < summary.train {
                true => (Split::Train, row),
                false => (Split::HeldOut, row - summary.train),
            };
            let Ok(example) = catalog.row((source, place.0), place.1)? else {
                continue;
            };
            let draw = Draw {
                example,
                draw: row as u64,
                bucket: None,
            };
            let prompt = prompts.without_images(&draw)?.ids.len();
            // Without the token that ends it, as references are measured.
            let length = |ids: Vec<i64>| ids.len().saturating_sub(1);
            let row = RowTokens {
                prompt,
                answer: prompts.target(&draw)?.map(length),
                rejected: prompts.rejected(&draw)?.map(length),
            };
            if place.0 == Split::Train {
                let of = |stage: &mut StageSurvey| stage.count(&summary.name, row);
                stages.iter_mut().for_each(of);
            }
        }
    }
    Ok(stages.iter().flat_map(StageSurvey::sentences).collect())
}

/// What a run will do and need, for people.
///
/// # Errors
/// Whatever [`check_inputs`] refuses.
pub fn plan(config: &Config) -> Result<String, TrainError> {
    let PlanInputs {
        config,
        catalog,
        shape,
        notes,
        adapters,
    } = inputs(config)?;
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
    let of_stage = |learn: &Option<i64>| match learn {
        Some(learn) => TrainingMemory::with_adapters(&shape, *learn, config.dtype),
        None => TrainingMemory::of(&shape, frozen, config.dtype),
    };
    // Stages come one after the other: the largest counts.
    let memory = adapters
        .iter()
        .map(of_stage)
        .max_by_key(TrainingMemory::total);
    let memory = memory.unwrap_or_else(|| of_stage(&None));
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
    for note in notes {
        line("note", note);
    }
    for (stage, adapters) in config.stages.iter().zip(adapters) {
        let options = stage.algorithm.options();
        let size = stage.common.batch.size;
        line(
            &format!("stage: {}", stage.name()),
            options.describe(&stage.common),
        );
        if let Some(rollout) = options.rollout() {
            let completions = size * options.samples();
            let slots = match rollout.slots {
                0 => completions,
                slots => slots.min(completions),
            };
            let prompt = rollout.max_prompt_tokens.min(shape.max_positions as usize);
            // A group's prompt once, and each completion.
            let tokens = size.min(slots) * prompt + slots * rollout.max_new_tokens;
            let tokens = match rollout.cache_tokens {
                0 => tokens,
                bound => tokens.min(bound),
            };
            let cache = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim;
            line(
                "memory: KV cache, at most",
                gib(tokens as f64 * cache as f64 * width),
            );
        }
        if let (Some(lora), Some(learn)) = (&stage.common.lora, adapters) {
            let learn = learn as f64 / 1e6;
            let rank = lora.rank;
            line(
                "adapters",
                format!("{learn:.1} M learn, rank {rank}, the weights stay as they are"),
            );
        }
        match (options.needs().reference_policy, adapters) {
            (false, _) => {}
            (true, None) => line("memory: reference policy", gib(parameters * width)),
            (true, Some(_)) => line(
                "memory: reference policy",
                "none: the policy without its adapters".into(),
            ),
        }
    }
    Ok(out)
}

fn gib(bytes: f64) -> String {
    format!("{:.2} GiB", bytes / f64::from(1u32 << 30))
}
