//! The cadence of a run: stages in order, steps, evaluations, checkpoints, resume.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use models::{Decoder, Tokenizer};
use rewards::{DeviceChoice, EncoderSet, Scorer, TaskScoring, TokenCounter};
use rollout::data::{Catalog, Cursor};
use rollout::template::ChatTemplate;
use tch::Device;
use torch_ext::ProcessGroup;

use crate::checkpoint::{Checkpoint, State};
use crate::config::{Config, StageConfig, TaskConfig};
use crate::eval::spread;
use crate::grpo::Trainer;
use crate::interrupt::Interrupt;
use crate::learner::Learner;
use crate::metrics::{Metrics, MetricsFile};
use crate::plan::open_catalog;
use crate::prompts::Prompts;
use crate::record::due;
use crate::sft::SftTrainer;
use crate::{StepEnd, TrainError, replica, resume};

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

/// Hears of what happens, on rank 0.
pub trait Observer {
    /// A step or an evaluation was finished and written.
    fn row(&mut self, stage: &StageConfig, step: u64, metrics: &Metrics);
    /// A checkpoint or the run's end was reached.
    fn checkpoint(&mut self, run: &Path);
    /// A long scan of a source's files goes on: bytes read so far and in all.
    fn reading(&mut self, source: &str, done: u64, all: u64);
    /// Something that people should know.
    fn notice(&mut self, text: &str);
}

/// Tells an observer of a scan, a few times a second once it takes long.
struct Reading {
    last: Instant,
    told: bool,
}

impl Reading {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            told: false,
        }
    }

    fn tell(&mut self, observer: &mut dyn Observer, source: &str, (done, all): (u64, u64)) {
        if self.last.elapsed() > Duration::from_millis(300) || (self.told && done == all) {
            observer.reading(source, done, all);
            (self.last, self.told) = (Instant::now(), done < all);
        }
    }
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

/// The tasks as the scorer takes them.
pub fn scoring(tasks: &IndexMap<String, TaskConfig>) -> IndexMap<String, TaskScoring> {
    tasks
        .iter()
        .map(|(name, task)| (name.clone(), task.scoring()))
        .collect()
}

/// The encoders as the scorer takes them; those that name no device compute on `device`.
pub fn encoders(config: &Config, device: Device) -> EncoderSet {
    EncoderSet {
        encoders: config.encoders.clone(),
        device: device_choice(device),
    }
}

/// A device as encoders' sections name it.
pub(crate) fn device_choice(device: Device) -> DeviceChoice {
    match device {
        Device::Cuda(index) => DeviceChoice::Cuda(Some(index)),
        _ => DeviceChoice::Cpu,
    }
}

/// What all stages share.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a Config,
    pub(crate) options: &'a RunOptions<'a>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) prompts: Prompts<'a>,
    pub(crate) scorer: Scorer,
    pub(crate) interrupt: Interrupt,
    pub(crate) metrics: Option<MetricsFile>,
    pub(crate) observer: &'a mut dyn Observer,
}

/// Counts of a stage so far.
pub(crate) struct Progress {
    pub(crate) index: usize,
    pub(crate) step: u64,
    pub(crate) evaluation_owed: bool,
    pub(crate) tokens: u64,
    pub(crate) prompts: u64,
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
    let interrupt =
        Interrupt::listen(Duration::try_from_secs_f64(config.grace_s).unwrap_or(Duration::MAX))?;
    if group.size() > 1 {
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
    let leader = group.rank() == 0;
    let mut indexing = Reading::new();
    let catalog = Arc::new(open_catalog(config, &mut |source, done, all| {
        indexing.tell(observer, source, (done, all));
    })?);
    let counter: TokenCounter = {
        let tokenizer = tokenizer.clone();
        Arc::new(move |text| tokenizer.encode(text).len())
    };
    let start = starting_point(config, options)?;
    if let Some(start) = &start
        && start.state.stage_index + 1 == config.stages.len()
        && stage_is_done(config, &start.state)
    {
        observer.notice("this run is finished; raise a stage's steps to go on");
        return Ok(RunEnd::AlreadyFinished);
    }
    if leader {
        resume::cut_back(options.folder, config, start.as_ref())?;
    }
    group.barrier()?;
    left_out(&catalog)
        .iter()
        .for_each(|line| observer.notice(line));
    let mut run = Run {
        config,
        options,
        prompts: Prompts::new(&config.tasks, &tokenizer, chat.as_ref(), config.seed)?
            .with_vision(config.model.shape(&tokenizer)?.vision),
        scorer: Scorer::with_encoders(
            &config.rewards,
            scoring(&config.tasks),
            Some(counter),
            &encoders(config, options.device),
        )?,
        catalog,
        interrupt,
        metrics: if leader {
            Some(MetricsFile::open(options.folder)?)
        } else {
            None
        },
        observer,
    };
    run.stages(start, group)
}

/// What was left out of the data: rows by their length, bad rows with the first few of them.
pub(crate) fn left_out(catalog: &Catalog) -> Vec<String> {
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
    !state.evaluation_owed && state.step >= config.stages[state.stage_index].steps()
}

impl Run<'_> {
    fn stages(
        &mut self,
        start: Option<Checkpoint>,
        mut group: ProcessGroup,
    ) -> Result<RunEnd, TrainError> {
        let first = start.as_ref().map_or(0, |start| {
            start.state.stage_index + usize::from(stage_is_done(self.config, &start.state))
        });
        let mut weights = start.as_ref().map(|start| start.path.clone());
        let config = self.config;
        if let Some(start) = &start {
            self.say_if_different(&start.state, group.size());
        }
        for (index, stage) in config.stages.iter().enumerate().skip(first) {
            let here = start
                .as_ref()
                .filter(|start| start.state.stage_index == index);
            let model = self.model(weights.as_deref())?;
            let learner = Learner::new(model, stage.optimizer(), stage.batch().recompute, group)?;
            let (learner, end) = self.stage(index, stage, learner, here)?;
            if end == RunEnd::Interrupted {
                return Ok(end);
            }
            // The next stage continues from these very weights, by way of the folder when there is one.
            weights = Some(self.folder(stage).join("final"));
            group = learner.group;
        }
        if group.rank() == 0 {
            self.observer.checkpoint(self.options.folder);
        }
        Ok(RunEnd::Finished)
    }

    fn say_if_different(&mut self, state: &State, size: usize) {
        if (state.world_size, state.threads) != (size, self.options.threads) {
            self.observer.notice(&format!(
                "the checkpoint was written by {} rank(s) with {} thread(s) each, this is {} with {}: the run continues, but not bitwise",
                state.world_size, state.threads, size, self.options.threads
            ));
        }
    }

    /// The policy from a checkpoint, or the run's first one.
    fn model(&self, weights: Option<&Path>) -> Result<Decoder, TrainError> {
        let place = (self.config.dtype.kind(), self.options.device);
        let tokenizer = self.prompts.tokenizer();
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

    pub(crate) fn folder(&self, stage: &StageConfig) -> PathBuf {
        self.options.folder.join("checkpoints").join(stage.name())
    }

    fn stage(
        &mut self,
        index: usize,
        stage: &StageConfig,
        mut learner: Learner,
        start: Option<&Checkpoint>,
    ) -> Result<(Learner, RunEnd), TrainError> {
        // Each stage draws its own order, and its completions' numbers are its own.
        let seed = rollout::mix(self.config.seed, index as u64 + 1);
        let mut cursor = Cursor::new(self.catalog.clone(), stage.curriculum(), seed)
            .map_err(|error| error.within(&format!("stages.{index}")))?;
        let mut progress = Progress {
            index,
            step: 0,
            evaluation_owed: true,
            tokens: 0,
            prompts: 0,
        };
        if let Some(start) = start {
            start.load_optimizer(&mut learner.optimizer, &learner.model)?;
            cursor.restore(&start.state.cursor)?;
            progress = Progress {
                index,
                step: start.state.step,
                evaluation_owed: start.state.evaluation_owed,
                tokens: start.state.tokens,
                prompts: cursor.state().draws,
            };
        }
        let reference = self.reference(index, stage)?;
        let examples = spread(
            self.catalog.held_out(&stage.curriculum().sources)?,
            stage.eval().prompts,
        );
        let interrupt = self.interrupt.clone();
        let mut reference = reference;
        // A stage with a successor writes `final/` in any case: the next one starts from it.
        let ends_whole = stage.checkpoint().at_end || index + 1 < self.config.stages.len();
        let kind = learner.model.kind();
        let peak = crate::flops::peak(self.config.peak_tflops, learner.device(), kind);
        let mut stepped = false;
        interrupt.begin();
        loop {
            if progress.evaluation_owed {
                let made = self.evaluate(stage, &learner, &examples, &progress)?;
                progress.evaluation_owed = !made;
            }
            let asked = [f64::from(interrupt.asked())];
            let asked = replica::sum_numbers(&learner.group, learner.device(), &asked)?[0] > 0.0;
            let done = progress.step >= stage.steps();
            let stops = asked && (progress.evaluation_owed || !done);
            let saves = stepped && due(progress.step, stage.checkpoint().every);
            if stops || (saves && !(done && ends_whole)) {
                let name = format!("step_{:06}", progress.step);
                self.checkpoint(stage, &learner, &cursor, &progress, &name)?;
            }
            if stops {
                return Ok((learner, RunEnd::Interrupted));
            }
            if done {
                break;
            }
            let step = progress.step + 1;
            let work = learner.work;
            learner
                .group
                .enter_phase(&format!("{} step {step}", stage.name()));
            let end = match stage {
                StageConfig::Sft(config) => SftTrainer {
                    config,
                    prompts: &self.prompts,
                    interrupt: &interrupt,
                }
                .step(&mut learner, &mut cursor, step)?,
                StageConfig::Grpo(config) => {
                    let trainer = Trainer {
                        config,
                        scorer: &self.scorer,
                        tasks: &self.config.tasks,
                        reference: reference.take(),
                        seed,
                        interrupt: &interrupt,
                    };
                    let end = trainer.step(&mut learner, (&self.prompts, &mut cursor), step)?;
                    reference = trainer.reference;
                    end
                }
            };
            let StepEnd::Done {
                mut metrics,
                rows,
                tokens,
            } = end
            else {
                continue;
            };
            if let (Some(peak), Some(seconds)) = (peak, metrics.get("time/forward_backward_s")) {
                let mfu = (learner.work - work) / (seconds * peak);
                metrics.insert("perf/mfu".into(), mfu);
            }
            progress = Progress {
                step,
                evaluation_owed: step == stage.steps() || due(step, stage.eval().every),
                tokens: progress.tokens + tokens,
                prompts: cursor.state().draws,
                ..progress
            };
            for row in cursor.take_skipped() {
                self.observer
                    .notice(&format!("source {}: bad row left out: {row}", row.source));
            }
            self.record(stage, &learner, &progress, metrics, &rows)?;
            stepped = true;
        }
        if ends_whole {
            self.checkpoint(stage, &learner, &cursor, &progress, "final")?;
        }
        Ok((learner, RunEnd::Finished))
    }

    /// The stage's first policy, where a KL term compares with it.
    fn reference(&self, index: usize, stage: &StageConfig) -> Result<Option<Decoder>, TrainError> {
        match stage {
            StageConfig::Grpo(grpo) if grpo.kl.coefficient != 0.0 => {
                let before = index
                    .checked_sub(1)
                    .map(|before| self.folder(&self.config.stages[before]).join("final"));
                self.model(before.as_deref()).map(Some)
            }
            _ => Ok(None),
        }
    }
}
