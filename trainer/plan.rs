//! Looking at a run without starting it: inputs, sizes, memory.

use std::fmt::Write as _;
use std::sync::Arc;

use models::{DecoderConfig, Tokenizer};
use rollout::data::{Catalog, Cursor};
use rollout::template::ChatTemplate;

use crate::TrainError;
use crate::config::{Config, Dtype};
use crate::data::{left_out, open_catalog};
use crate::memory::TrainingMemory;
use crate::policy_check;
use crate::prompt_builder::PromptBuilder;

/// Opens what a config names, without loading weights: tokenizer, templates, data, and the first
/// prompt of every source's task. Gives what was left out of the data, a line each.
///
/// # Errors
/// The first thing that `run` would refuse.
pub fn check_inputs(config: &Config) -> Result<Vec<String>, TrainError> {
    let inputs = inputs(config)?;
    Ok(left_out(&inputs.catalog)
        .into_iter()
        .chain(inputs.told)
        .collect())
}

/// What a config names, opened.
struct PlanInputs {
    catalog: Arc<Catalog>,
    shape: DecoderConfig,
    /// What people should know, a sentence each.
    told: Vec<String>,
}

fn inputs(config: &Config) -> Result<PlanInputs, TrainError> {
    let folder = config
        .model
        .tokenizer_folder()
        .ok_or_else(|| TrainError::Input("model: a tokenizer folder is needed".into()))?;
    let tokenizer = Arc::new(Tokenizer::read(folder)?);
    let chat = ChatTemplate::load(folder).map_err(|error| TrainError::Input(error.to_string()))?;
    let catalog = Arc::new(open_catalog(config, &mut |_, _, _| {})?);
    let chat = chat.map(Arc::new);
    let tasks = &config.tasks;
    let shape = config.model.shape(&tokenizer)?;
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
    Ok(PlanInputs {
        told: policy_check::told(config, &shape, &tokenizer, &longest)?,
        catalog,
        shape,
    })
}

/// What a run will do and need, for people.
///
/// # Errors
/// Whatever [`check_inputs`] refuses.
pub fn plan(config: &Config) -> Result<String, TrainError> {
    let PlanInputs {
        catalog,
        shape,
        told,
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
        let options = stage.algorithm.options();
        let size = stage.common.batch.size;
        line(
            &format!("stage: {}", stage.name()),
            options.describe(&stage.common),
        );
        if let Some(rollout) = options.rollout() {
            let completions = size * rollout.group_size;
            let slots = match rollout.slots {
                0 => completions,
                slots => slots.min(completions),
            };
            let prompt = rollout.max_prompt_tokens.min(shape.max_positions as usize);
            // A group's prompt once, and each completion.
            let tokens = size.min(slots) * prompt + slots * rollout.max_new_tokens;
            let cache = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim;
            line(
                "memory: KV cache, at most",
                gib(tokens as f64 * cache as f64 * width),
            );
        }
        if options.needs().reference_policy {
            line("memory: reference policy", gib(parameters * width));
        }
    }
    for sentence in told {
        let _ = writeln!(out, "  {sentence}");
    }
    Ok(out)
}

fn gib(bytes: f64) -> String {
    format!("{:.2} GiB", bytes / f64::from(1u32 << 30))
}
