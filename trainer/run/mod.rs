//! A run: its inputs opened, its stages in order, each from the last one's weights.

mod evaluate;
mod observer;
mod output;
mod progress;
mod stage;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use models::{Decoder, Tokenizer};
use rewards::{Scorer, TokenCounter};
use rollout::data::Catalog;
use rollout::template::ChatTemplate;
use tch::Device;
use torch_ext::ProcessGroup;

use crate::checkpoint::{Checkpoint, State};
use crate::config::{Config, scoring};
use crate::data::{left_out, open_catalog};
use crate::interrupt::Interrupt;
use crate::learn::Ranks;
use crate::prompt_builder::PromptBuilder;
use crate::{TrainError, policy_check, resume, telemetry};
use observer::Throttle;
use output::RunOutput;

pub use observer::Observer;

/// Where a run continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// From the newest checkpoint of the run folder, else from the start.
    Auto,
    /// From the start; what the folder holds of an earlier run is removed.
    Never,
    /// From this checkpoint of the run folder.
    From(PathBuf),
}

/// A run besides its config.
pub struct RunOptions<'a> {
    /// The run folder.
    pub folder: &'a Path,
    /// Where to continue.
    pub resume: Resume,
    /// Where to compute.
    pub device: Device,
    /// libtorch's threads per rank.
    pub threads: usize,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All stages are done.
    Finished,
    /// All stages were done before.
    AlreadyFinished,
    /// A signal stopped it; its state is written.
    Interrupted,
}

/// What all stages share.
struct Run<'a> {
    config: &'a Config,
    options: &'a RunOptions<'a>,
    catalog: Arc<Catalog>,
    builder: Rc<PromptBuilder>,
    scorer: Scorer,
    interrupt: Interrupt,
    ranks: Rc<Ranks>,
}

/// Runs `config` on this rank.
///
/// # Errors
/// Wrong input, a lost rank, a full disk; whatever was checkpointed stays.
pub fn run(
    config: &Config,
    options: &RunOptions,
    group: ProcessGroup,
    observer: &mut dyn Observer,
) -> Result<RunEnd, TrainError> {
    let _clock = telemetry::ensure_clock();
    let _span = tracing::info_span!("run", name = config.name).entered();
    let interrupt =
        Interrupt::listen(Duration::try_from_secs_f64(config.grace_s).unwrap_or(Duration::MAX))?;
    let ranks = Rc::new(Ranks::new(group, options.device));
    if ranks.size() > 1 {
        // A rank that ended alone would be missed by the others.
        interrupt.begin();
    }
    let folder = config.model.tokenizer_folder().ok_or_else(|| {
        TrainError::Input(
            "model.tokenizer: a fresh network (`init`) needs a tokenizer folder".into(),
        )
    })?;
    let tokenizer = Arc::new(Tokenizer::read(folder)?);
    let chat = ChatTemplate::load(folder).map_err(|error| TrainError::Input(error.to_string()))?;
    let mut throttle = Throttle::new();
    let catalog = Arc::new(open_catalog(config, &mut |source, done, all| {
        throttle.reading(observer, source, (done, all));
    })?);
    let start = starting_point(config, options)?;
    if let Some(start) = &start
        && start.state.stage_index + 1 == config.stages.len()
        && stage_is_done(config, &start.state)
    {
        observer.notice("this run is finished; raise a stage's steps to go on");
        return Ok(RunEnd::AlreadyFinished);
    }
    if ranks.is_leader() {
        resume::cut_back(options.folder, config, start.as_ref())?;
    }
    ranks.barrier()?;
    left_out(&catalog)
        .iter()
        .for_each(|line| observer.notice(line));
    let shape = config.model.shape(&tokenizer)?;
    policy_check::told(config, &shape, &tokenizer, &[])?
        .iter()
        .for_each(|line| observer.notice(line));
    let builder = PromptBuilder::new(
        &config.tasks,
        tokenizer.clone(),
        chat.map(Arc::new).as_ref(),
        config.seed,
    )?
    .with_vision(shape.vision);
    let counter: TokenCounter = Arc::new(move |text| tokenizer.encode(text).len());
    let scorer = Scorer::with_encoders(
        &config.rewards,
        scoring(&config.tasks),
        Some(counter),
        &config.encoder_set(options.device),
    )?;
    let mut output = RunOutput::open(options.folder, ranks.is_leader(), observer)?;
    let run = Run {
        config,
        options,
        catalog,
        builder: Rc::new(builder),
        scorer,
        interrupt,
        ranks,
    };
    run.stages(&mut output, start)
}

/// The checkpoint to continue from, after the checks that continuing asks for.
fn starting_point(config: &Config, options: &RunOptions) -> Result<Option<Checkpoint>, TrainError> {
    let start = match &options.resume {
        Resume::Auto => resume::newest(options.folder, config)?,
        Resume::Never => None,
        Resume::From(path) => Some(Checkpoint::open(path)?),
    };
    if let Some(start) = &start {
        let stage = config.stages.get(start.state.stage_index);
        if stage.is_none_or(|stage| stage.name() != start.state.stage) {
            return Err(TrainError::Input(format!(
                "checkpoint {} is of stage `{}`, which the config does not have at that place",
                start.path.display(),
                start.state.stage
            )));
        }
    }
    Ok(start)
}

/// Whether nothing of the checkpoint's stage is left to do.
fn stage_is_done(config: &Config, state: &State) -> bool {
    !state.evaluation_owed && state.step >= config.stages[state.stage_index].common.steps
}

impl Run<'_> {
    fn stages(
        &self,
        output: &mut RunOutput,
        start: Option<Checkpoint>,
    ) -> Result<RunEnd, TrainError> {
        let first = start.as_ref().map_or(0, |start| {
            start.state.stage_index + usize::from(stage_is_done(self.config, &start.state))
        });
        let mut weights = start.as_ref().map(|start| start.path.clone());
        if let Some(start) = &start {
            self.say_if_different(output, &start.state);
        }
        for index in first..self.config.stages.len() {
            let here = start
                .as_ref()
                .filter(|start| start.state.stage_index == index);
            let end = self.stage(output, index, self.model(weights.as_deref())?, here)?;
            if end == RunEnd::Interrupted {
                return Ok(end);
            }
            // The next stage continues from these very weights, by way of the folder when there is one.
            let stage = self.config.stages[index].name();
            weights = Some(self.stage_folder(stage).join("final"));
        }
        if self.ranks.is_leader() {
            output.observer.checkpoint(self.options.folder);
        }
        Ok(RunEnd::Finished)
    }

    fn say_if_different(&self, output: &mut RunOutput, state: &State) {
        let size = self.ranks.size();
        if (state.world_size, state.threads) != (size, self.options.threads) {
            output.observer.notice(&format!(
                "the checkpoint was written by {} rank(s) with {} thread(s) each, this is {} with {}: the run continues, but not bitwise",
                state.world_size, state.threads, size, self.options.threads
            ));
        }
    }

    /// Where a stage's checkpoints are.
    fn stage_folder(&self, stage: &str) -> PathBuf {
        resume::stage_folder(self.options.folder, stage)
    }

    /// The policy from a checkpoint, or the run's first one.
    fn model(&self, weights: Option<&Path>) -> Result<Decoder, TrainError> {
        let place = (self.config.dtype.kind(), self.options.device);
        let tokenizer = self.builder.tokenizer();
        let model = match weights {
            Some(folder) => self.config.model.reload(folder, place)?,
            None => self.config.model.load(self.config.seed, tokenizer, place)?,
        };
        let rows = model.config.vocab_size;
        if rows < tokenizer.len() as i64 {
            return Err(TrainError::Input(format!(
                "model: {} embedding rows for a tokenizer of {} ids",
                model.config.vocab_size,
                tokenizer.len()
            )));
        }
        if let Some(id) = tokenizer.eos().iter().find(|id| **id >= rows) {
            return Err(TrainError::Input(format!(
                "model: eos_token_id {id} (generation_config.json, config.json) is none of the {rows} embedding rows"
            )));
        }
        Ok(model)
    }
}
