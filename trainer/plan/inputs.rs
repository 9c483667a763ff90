//! What a config names, opened without loading weights: tokenizer, templates, data, and prompts of every source.

use std::sync::Arc;

use models::svg_tokens::lacking_tokens;
use models::vision::VisionNetwork;
use models::{DecoderConfig, ModelConfig, Tokenizer};
use rollout::data::{Catalog, Cursor, Draw, SourceSummary, Split};
use rollout::template::ChatTemplate;

use super::footprint::RowLengths;
use crate::TrainError;
use crate::config::{Config, StageConfig};
use crate::data::{left_out, open_catalog};
use crate::epochs::count_steps;
use crate::policy_check;
use crate::prompt_builder::PromptBuilder;
use crate::stage_survey::{RowTokens, StageSurvey};

/// Rows of a source that are looked at.
const LOOKED_AT: usize = 1000;

/// What a config names, opened.
pub(super) struct PlanInputs {
    /// With the steps that epochs come to.
    pub(super) config: Config,
    pub(super) catalog: Arc<Catalog>,
    pub(super) shape: DecoderConfig,
    /// Numbers that learn beside the policy's weights, by units, of each stage that has adapters.
    pub(super) adapters: Vec<Option<Vec<i64>>>,
    /// The longest rows of each stage.
    pub(super) lengths: Vec<RowLengths>,
    /// What is to be said of it.
    pub(super) notes: Vec<String>,
}

/// Opens them.
///
/// # Errors
/// The first thing that `run` would refuse.
pub(super) fn inputs(config: &Config) -> Result<PlanInputs, TrainError> {
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
    let mut shown = vec![ShownTokens::default(); config.stages.len()];
    for (index, stage) in config.stages.iter().enumerate() {
        let mut cursor = Cursor::new(catalog.clone(), &stage.common.curriculum, config.seed)
            .map_err(|error| error.within(&format!("stages.{index}")))?;
        for draw in cursor.next(config.data.sources.len())? {
            let prompt = prompts.prompt(&draw)?;
            longest[index] = longest[index].max(prompt.ids.len());
            if let Some(pictures) = &prompt.shown {
                let words = prompts.without_images(&draw)?.ids.len();
                let patches = patches(&shape, pictures.rows());
                shown[index].observe(prompt.ids.len() - words, patches);
            }
        }
    }
    let mut notes = left_out(&catalog);
    notes.extend(epochs);
    notes.extend(tasks_without_rows(config, &catalog));
    let surveys = survey(config, (&catalog, LOOKED_AT), &prompts)?;
    notes.extend(surveys.iter().flat_map(StageSurvey::sentences));
    let lengths = surveys.iter().zip(shown);
    let lengths = lengths.map(|(survey, shown)| RowLengths {
        prompt: (survey.longest.prompt + shown.tokens).min(survey.prompts.most) as i64,
        answer: survey.longest.answer as i64,
        patches: shown.patches,
    });
    notes.extend(policy_check::told(config, &shape, &tokenizer, &longest)?);
    Ok(PlanInputs {
        config: config.clone(),
        catalog,
        adapters: adapters(config, &shape)?,
        lengths: lengths.collect(),
        shape,
        notes,
    })
}

/// Number of the adapters' weights, by units, of each stage that has any.
fn adapters(config: &Config, shape: &DecoderConfig) -> Result<Vec<Option<Vec<i64>>>, TrainError> {
    let of = |stage: &StageConfig| {
        let Some(lora) = &stage.common.lora else {
            return Ok(None);
        };
        let said = |error| TrainError::Input(format!("stages.{}: {error}", stage.name()));
        shape.adapter_units(lora).map(Some).map_err(said)
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
pub(crate) fn tasks_without_rows(config: &Config, catalog: &Catalog) -> Vec<String> {
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

/// Makes the prompts and targets of at most so many rows of each source, spread evenly over it, and holds them against
/// the stages' bounds on lengths.
///
/// # Errors
/// A row that cannot be read or made a prompt of.
pub(crate) fn survey(
    config: &Config,
    (catalog, most): (&Catalog, usize),
    prompts: &PromptBuilder,
) -> Result<Vec<StageSurvey>, TrainError> {
    let mut stages: Vec<StageSurvey> = config.stages.iter().map(StageSurvey::of).collect();
    for (source, summary) in catalog.summary().iter().enumerate() {
        let all = summary.train + summary.held_out;
        let looked_at = all.min(most);
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
    Ok(stages)
}

/// What pictures add to a stage's prompts, at most of those looked at.
#[derive(Debug, Clone, Copy, Default)]
struct ShownTokens {
    tokens: usize,
    patches: i64,
}

impl ShownTokens {
    fn observe(&mut self, tokens: usize, patches: i64) {
        self.tokens = self.tokens.max(tokens);
        self.patches = self.patches.max(patches);
    }
}

/// Patches of so many patches or tiles.
fn patches(shape: &DecoderConfig, rows: i64) -> i64 {
    let vision = shape.vision.as_ref();
    match vision.map(|vision| (&vision.tower.network, vision.tower.patch_size)) {
        Some((VisionNetwork::InternVl(tile), patch)) => {
            rows * ((tile.image_size / patch.max(1)).pow(2) + 1)
        }
        _ => rows,
    }
}
