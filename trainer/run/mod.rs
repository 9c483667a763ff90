//! A run: its inputs opened, its stages in order, each from the last one's weights.

mod best;
pub(crate) mod evaluate;
pub(crate) mod kept_pictures;
mod observer;
mod options;
mod output;
mod own_pairs;
mod policy;
mod progress;
mod saving;
mod stage;
mod stage_evaluation;
mod start;
mod suite_answers;
pub(crate) mod suite_eval;
mod verdict;
mod workers;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, Leaf, Tokenizer};
use rewards::{Scorer, TokenCounter};
use rollout::data::{Catalog, SourceSummary};
use rollout::template::ChatTemplate;
use serde_json::Value;
use torch_ext::ProcessGroup;

use crate::checkpoint::{Checkpoint, Provenance, State};
use crate::config::{Config, StageCommon};
use crate::data::{left_out, open_catalog};
use crate::epochs::count_steps;
use crate::inputs::Inputs;
use crate::learn::{PhaseKind, Ranks};
use crate::prompt_builder::PromptBuilder;
use crate::resume;
use crate::stage_survey::StageSurvey;
use crate::{TrainError, agreement, extended, files, plan, policy_check, telemetry};
use observer::Throttle;
use output::RunOutput;
use start::Start;
use suite_eval::tasks_and_suites;

pub use observer::{Observer, RunHeader, SourceCounts};
pub use options::RunOptions;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All stages are done.
    Finished,
    /// All stages were done before.
    AlreadyFinished,
    /// This signal stopped it; its state is written.
    Interrupted(i32),
}

/// What all stages share.
struct Run<'a> {
    /// With the steps of epochs, and the policy's own folder.
    config: &'a Config,
    /// The config as it is kept and compared.
    resolved: &'a Value,
    options: &'a RunOptions<'a>,
    catalog: Arc<Catalog>,
    builder: Rc<PromptBuilder>,
    scorer: Scorer,
    ranks: Rc<Ranks>,
    start: Start,
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
    let ranks = Rc::new(Ranks::new(group, options.device));
    if ranks.size() > 1 {
        // A rank that ended alone would be missed by the others.
        options.interrupt.begin();
    }
    ranks.enter_phase(PhaseKind::Once, "the policy's folder")?;
    let (policy, extended) = extended::policy(&config.model, options.folder, &ranks)?;
    extended.iter().for_each(|line| observer.notice(line));
    let mut given = config.clone();
    let mut with_policy = Config {
        model: policy,
        ..config.clone()
    };
    if let Some(samplers) = &options.samplers
        && with_policy.model != config.model
    {
        let policy = serde_json::to_string(&with_policy.model);
        let policy = policy.map_err(|error| TrainError::Other(error.to_string()))?;
        samplers.borrow_mut().set_policy(Some(policy));
    }
    ranks.enter_phase(PhaseKind::Once, "reading the data")?;
    let (opened, inputs) = match RunInputs::of(&with_policy, config, observer) {
        Ok((opened, inputs)) => (Ok(opened), Ok(inputs)),
        Err(error) => (Err(TrainError::Other(String::new())), Err(error)),
    };
    let inputs = agreement::agree(&ranks, inputs)?;
    let opened = opened?;
    let epochs = count_steps(&mut given, &opened.catalog)?;
    epochs.iter().for_each(|line| observer.notice(line));
    let resolved =
        serde_json::to_value(&given).map_err(|error| TrainError::Other(error.to_string()))?;
    with_policy.stages = given.stages;
    let config = &with_policy;
    let provenance = Provenance {
        config: resume::decisive(&resolved),
        inputs,
    };
    ranks.enter_phase(PhaseKind::Once, "choosing the checkpoint")?;
    let mut start = Start::find(config, options, &ranks, provenance)?;
    if asks_others(&resolved) {
        start.step_kind = PhaseKind::Once;
    }
    start.notices.iter().for_each(|line| observer.notice(line));
    if let Some(deadline) = ranks.timeout() {
        observer.notice(&format!(
            "{} ranks; one that hangs is given up after {} s (ranks.timeout_s), sooner in phases whose length is known by then",
            ranks.size(),
            deadline.as_secs()
        ));
    }
    if let Some(checkpoint) = &start.checkpoint {
        let done = stage_is_done(config, checkpoint);
        if done && checkpoint.state.stage_index + 1 == config.stages.len() {
            if ranks.is_leader() {
                files::sweep(options.folder);
                // A copy of a finished run is one as well.
                if !options.folder.join(RESOLVED).exists() {
                    write_documents(options, &resolved)?;
                }
            }
            observer.notice("this run is finished; raise a stage's steps to go on");
            return Ok(RunEnd::AlreadyFinished);
        }
        options.interrupt.wrote(&checkpoint.path, 0);
    }
    ranks.enter_phase(PhaseKind::Once, "start")?;
    left_out(&opened.catalog)
        .iter()
        .for_each(|line| observer.notice(line));
    let tokenizer = opened.tokenizer;
    let shape = config.model.shape(&tokenizer)?;
    policy_check::told(config, &shape, &tokenizer, &[])?
        .iter()
        .for_each(|line| observer.notice(line));
    let builder = PromptBuilder::new(
        &tasks_and_suites(config),
        tokenizer.clone(),
        opened.chat.map(Arc::new).as_ref(),
        config.seed,
    )?
    .with_vision(shape.vision);
    if ranks.is_leader() {
        let mut told = plan::tasks_without_rows(config, &opened.catalog);
        let surveys = plan::survey(config, (&opened.catalog, LOOKED_AT), &builder)?;
        told.extend(surveys.iter().flat_map(StageSurvey::sentences));
        told.iter().for_each(|line| observer.notice(line));
    }
    let counter: TokenCounter = Arc::new(move |text| tokenizer.encode(text).len());
    let scorer = Scorer::with_encoders(
        &config.rewards,
        config.scorings(),
        Some(counter),
        &config.encoder_set(options.device),
    )?;
    let mut output = RunOutput::new(options.folder, &config.metrics.aliases, observer);
    let run = Run {
        config,
        resolved: &resolved,
        options,
        catalog: opened.catalog,
        builder: Rc::new(builder),
        scorer,
        ranks,
        start,
    };
    run.stages(&mut output)
}

/// Rows of each source that are held against the stages' bounds as a run begins; `svgrl plan` looks at more.
const LOOKED_AT: usize = 100;

/// Whether the config names a service or samplers that are asked while steps are made: how long it may keep one waiting is not known
/// from the steps before.
fn asks_others(config: &Value) -> bool {
    match config {
        Value::Object(map) => map.iter().any(|(name, value)| {
            let names = matches!(name.as_str(), "endpoint" | "endpoints" | "url");
            (names && (value.is_string() || value.as_array().is_some_and(|all| !all.is_empty())))
                || (name == "placement" && value == "dedicated")
                || asks_others(value)
        }),
        Value::Array(all) => all.iter().any(asks_others),
        _ => false,
    }
}

/// What a run reads before anything else.
struct RunInputs {
    tokenizer: Arc<Tokenizer>,
    chat: Option<ChatTemplate>,
    catalog: Arc<Catalog>,
}

impl RunInputs {
    /// Opens what `config` names; digests are of what was `given`, which stays where a run's own copy may go.
    fn of(
        config: &Config,
        given: &Config,
        observer: &mut dyn Observer,
    ) -> Result<(Self, Inputs), TrainError> {
        let folder = config.model.tokenizer_folder().ok_or_else(|| {
            TrainError::Input(
                "model.tokenizer: a fresh network (`init`) needs a tokenizer folder".into(),
            )
        })?;
        let tokenizer = Arc::new(Tokenizer::read(folder)?);
        let chat =
            ChatTemplate::load(folder).map_err(|error| TrainError::Input(error.to_string()))?;
        let mut throttle = Throttle::new();
        let catalog = Arc::new(open_catalog(config, &mut |source, done, all| {
            throttle.reading(observer, source, (done, all));
        })?);
        let inputs = Inputs::of(given, &catalog)?;
        let opened = Self {
            tokenizer,
            chat,
            catalog,
        };
        Ok((opened, inputs))
    }
}

/// Writes what describes the run: what was given for it and what that came to. Bases of a config that the run had
/// before go.
fn write_documents(options: &RunOptions, resolved: &Value) -> Result<(), TrainError> {
    let at = |name: &str| options.folder.join(name);
    let resolved =
        serde_saphyr::to_string(resolved).map_err(|error| TrainError::Other(error.to_string()))?;
    for (name, bytes) in options.documents {
        files::write_whole(&at(name), bytes)?;
    }
    files::write_whole(&at(RESOLVED), resolved.as_bytes())?;
    let given = |name: &String| options.documents.iter().any(|(known, _)| known == name);
    let bases = (1..).map(|number| format!("base_{number}.yaml"));
    for name in bases.skip_while(given).take_while(|name| at(name).exists()) {
        std::fs::remove_file(at(&name)).map_err(TrainError::io(at(&name)))?;
    }
    Ok(())
}

/// The run folder's config with everything in it that it does not say.
const RESOLVED: &str = "config.resolved.yaml";

/// Whether nothing of the checkpoint's stage is left to do, its last folder included.
fn stage_is_done(config: &Config, checkpoint: &Checkpoint) -> bool {
    let state = &checkpoint.state;
    let common = &config.stages[state.stage_index].common;
    let ended = checkpoint.path.ends_with("final") || !ends_whole(config, state.stage_index);
    // One that ended early goes on when more evaluations may pass than did.
    let early = (1..=state.stopped_after).contains(&common.eval.stop_after);
    !state.evaluation_owed && (state.step >= common.steps || early) && ended
}

/// Whether a stage leaves `final/`: one with a successor does in any case, for the next one starts from it.
fn ends_whole(config: &Config, index: usize) -> bool {
    config.stages[index].common.checkpoint.at_end || index + 1 < config.stages.len()
}

impl Run<'_> {
    fn stages(&self, output: &mut RunOutput) -> Result<RunEnd, TrainError> {
        let start = self.start.checkpoint.as_ref();
        let first = start.map_or(0, |start| {
            start.state.stage_index + usize::from(stage_is_done(self.config, start))
        });
        let mut weights = start.map(|start| start.path.clone());
        if let Some(start) = start {
            self.say_if_different(output, &start.state);
        }
        for index in first..self.config.stages.len() {
            let here = start.filter(|start| start.state.stage_index == index);
            let model = self.policy(index, weights.as_deref(), here.is_some())?;
            if index == first {
                let done = here.map_or(0, |here| here.state.step);
                let next = (&self.config.stages[index].common, done);
                output.observer.begins(&self.header(&model, next));
            }
            let end = self.stage(output, index, model, here)?;
            if matches!(end, RunEnd::Interrupted(_)) {
                return Ok(end);
            }
            if index + 1 == self.config.stages.len() {
                break;
            }
            // The next stage continues from these very weights, by way of the folder.
            let last = self
                .stage_folder(self.config.stages[index].name())
                .join("final");
            if self.ranks.size() > 1 {
                let sum = Checkpoint::open(&last).ok().map(|whole| whole.sum);
                agreement::see_the_same(&self.ranks, &last, sum)?;
            }
            weights = Some(last);
        }
        if self.ranks.is_leader() {
            output.end()?;
            output.observer.checkpoint(self.options.folder);
        }
        Ok(RunEnd::Finished)
    }

    /// What the run is, as it begins or goes on.
    fn header<'a>(
        &'a self,
        policy: &Decoder,
        (stage, step): (&'a StageCommon, u64),
    ) -> RunHeader<'a> {
        let rows = |source: SourceSummary| SourceCounts {
            name: source.name,
            train: source.train,
            held_out: source.held_out,
        };
        RunHeader {
            device: self.options.device,
            threads: self.options.threads,
            ranks: self.ranks.size(),
            parameters: policy.params.leaves().iter().map(Leaf::numel).sum(),
            sources: self.catalog.summary().into_iter().map(rows).collect(),
            folder: self.options.folder,
            stage,
            step,
            from: self
                .start
                .checkpoint
                .as_ref()
                .map(|from| from.path.as_path()),
        }
    }

    /// From here on the run writes: everything that it needs is read. What the folder holds beyond the checkpoint
    /// is cut off; what describes the run is written.
    fn begin_writing(&self, output: &mut RunOutput) -> Result<(), TrainError> {
        if output.is_open() {
            return Ok(());
        }
        if self.ranks.is_leader() {
            let folder = self.options.folder;
            let start = self.start.checkpoint.as_ref();
            if let (Some(start), false) = (start, self.start.changes.is_empty()) {
                resume::record(folder, &start.path, &self.start.changes, false)?;
                for change in &self.start.changes {
                    output.observer.notice(&format!("accepted: {change}"));
                }
            }
            write_documents(self.options, self.resolved)?;
            if let Some(lacks) = resume::cut_back(folder, self.config, start)? {
                output.observer.notice(&lacks);
            }
        }
        output.open(self.ranks.is_leader())?;
        Ok(self.ranks.barrier()?)
    }

    fn say_if_different(&self, output: &mut RunOutput, state: &State) {
        let size = self.ranks.size();
        if (state.world_size, state.threads) != (size, self.options.threads) {
            output.observer.notice(&format!(
                "the checkpoint was written by {} rank(s) with {} thread(s) each, this is {} with {}: the run continues, but not bitwise",
                state.world_size, state.threads, size, self.options.threads
            ));
        } else if state.sharding != self.config.sharding.stage {
            output.observer.notice(&format!(
                "the checkpoint was written at sharding stage {}, this is stage {}: the run continues, but not bitwise",
                state.sharding, self.config.sharding.stage
            ));
        }
        let asked = self.config.stages[state.stage_index].common.steps;
        if state.step > asked {
            output.observer.notice(&format!(
                "`{}` has done {} steps, more than the {asked} that are asked for now: it ends where it is",
                state.stage, state.step
            ));
        }
    }

    /// Where a stage's checkpoints are.
    fn stage_folder(&self, stage: &str) -> PathBuf {
        resume::stage_folder(self.options.folder, stage)
    }
}
