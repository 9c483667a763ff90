//! A config's held-out evaluation of a checkpoint, without training: the numbers that a run writes at that checkpoint.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use models::{ModelConfig, Tokenizer};
use rewards::{Scorer, TokenCounter};
use rollout::engine::{self, EngineOptions};
use rollout::template::ChatTemplate;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tch::Device;

use crate::config::{Config, RolloutConfig, StageConfig, scoring};
use crate::data::open_catalog;
use crate::interrupt::Interrupt;
use crate::learn::Ranks;
use crate::metrics::keys;
use crate::prompt_builder::PromptBuilder;
use crate::run::evaluate::{Evaluation, SetScores, sampling, subsample};
use crate::run::suite_eval::{SuiteEvaluation, tasks_and_suites};
use crate::samples::StepId;
use crate::{TrainError, files};

/// What is evaluated, and where.
pub struct CheckpointEvaluation<'a> {
    /// The config whose held-out rows, tasks and `eval` section count.
    pub config: &'a Config,
    /// A checkpoint of a run, or any policy's folder.
    pub checkpoint: &'a Path,
    /// The stage whose `eval` section counts; by default the checkpoint's own, else the last one that evaluates.
    pub stage: Option<&'a str>,
    /// Where to compute.
    pub device: Device,
    /// Asks it to be dropped.
    pub interrupt: &'a Interrupt,
}

/// What a checkpoint's evaluation gives, and `scores.json` holds.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointScores {
    /// The folder.
    pub checkpoint: String,
    /// The stage whose `eval` section counted.
    pub stage: String,
    /// Steps of the stage that the checkpoint is of; absent for a folder that no run wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The metrics of each set by their names.
    pub sets: Map<String, Value>,
}

/// Where a checkpoint stands in its run.
struct CheckpointPlace {
    stage: String,
    step: u64,
}

/// Evaluates a checkpoint; writes `out/scores.json` and `out/items.jsonl`, a row for each completion with the keys of
/// sample files and its `set`, and pictures of some of them (`out/pictures/<set>/<row of the set>.png`). `None`, with nothing written, when a signal cut it short.
///
/// # Errors
/// A stage that evaluates nothing, a folder that is no policy, whatever data, rewards and engine refuse.
pub fn evaluate_checkpoint(
    args: &CheckpointEvaluation,
    out: &Path,
) -> Result<Option<CheckpointScores>, TrainError> {
    let place = place_of(args.checkpoint);
    let stage = stage_of(args, place.as_ref())?;
    let step = place.filter(|place| place.stage == stage.name());
    let step = step.map(|place| place.step);
    let Some(sets) = scores(args, stage, step.unwrap_or(0))? else {
        return Ok(None);
    };
    files::make_folder(out)?;
    let pictures = out.join("pictures");
    if pictures.exists() {
        std::fs::remove_dir_all(&pictures).map_err(TrainError::io(&pictures))?;
    }
    for (set, kept) in sets
        .iter()
        .flat_map(|set| set.pictures.iter().map(move |kept| (set, kept)))
    {
        let folder = pictures.join(set.name);
        files::make_folder(&folder)?;
        files::write_whole(&folder.join(format!("{}.png", kept.row)), &kept.png)?;
    }
    let mut all = Map::new();
    let mut items = String::new();
    for set in &sets {
        let named = set.metrics.iter().map(|(name, value)| {
            let name = keys::of_held_out(name).map_or(name, |(_, metric)| metric);
            (name.to_owned(), json!(value))
        });
        all.insert(set.name.to_owned(), Value::Object(named.collect()));
        for row in &set.rows {
            let row = serde_json::to_value(row).map_err(unwritable)?;
            let mut item = Map::from_iter([("set".to_owned(), json!(set.name))]);
            item.extend(row.as_object().cloned().unwrap_or_default());
            items.push_str(&Value::Object(item).to_string());
            items.push('\n');
        }
    }
    let scores = CheckpointScores {
        checkpoint: args.checkpoint.display().to_string(),
        stage: stage.name().to_owned(),
        step,
        sets: all,
    };
    let text = serde_json::to_string_pretty(&scores).map_err(unwritable)?;
    files::write_whole(&out.join("items.jsonl"), items.as_bytes())?;
    files::write_whole(&out.join("scores.json"), format!("{text}\n").as_bytes())?;
    Ok(Some(scores))
}

fn unwritable(error: serde_json::Error) -> TrainError {
    TrainError::Other(format!("scores: {error}"))
}

/// What a checkpoint's own state says; `None` for a folder without one.
fn place_of(checkpoint: &Path) -> Option<CheckpointPlace> {
    let bytes = std::fs::read(checkpoint.join("trainer/state.json")).ok()?;
    let state: Value = serde_json::from_slice(&bytes).ok()?;
    Some(CheckpointPlace {
        stage: state["stage"].as_str()?.to_owned(),
        step: state["step"].as_u64()?,
    })
}

/// The stage whose evaluation is made.
fn stage_of<'a>(
    args: &CheckpointEvaluation<'a>,
    place: Option<&CheckpointPlace>,
) -> Result<&'a StageConfig, TrainError> {
    let stages = &args.config.stages;
    let named = |name: &str| stages.iter().find(|stage| stage.name() == name);
    let own = place.and_then(|place| named(&place.stage));
    let evaluates = |stage: &&StageConfig| stage.common.eval.evaluates();
    let stage = match args.stage {
        Some(name) => named(name).ok_or_else(|| {
            let known: Vec<&str> = stages.iter().map(StageConfig::name).collect();
            TrainError::Input(format!(
                "--stage {name}: the config has the stages {known:?}"
            ))
        })?,
        None => own
            .or_else(|| stages.iter().rev().find(evaluates))
            .or(stages.last())
            .ok_or_else(|| TrainError::Input("stages: at least one stage is needed".into()))?,
    };
    match evaluates(&stage) {
        true => Ok(stage),
        false => Err(TrainError::Input(format!(
            "stages.{0}.eval.prompts: is 0, so nothing is evaluated: --set stages.{0}.eval.prompts=N, or --stage NAME of another",
            stage.name()
        ))),
    }
}

/// Opens all that an evaluation needs, and makes it.
fn scores(
    args: &CheckpointEvaluation,
    stage: &StageConfig,
    step: u64,
) -> Result<Option<Vec<SetScores>>, TrainError> {
    // The folder holds its tokenizer, extended where the config extends one.
    let model = ModelConfig {
        path: Some(args.checkpoint.to_owned()),
        tokenizer: None,
        init: None,
        extend_tokens: None,
        ..args.config.model.clone()
    };
    let config = Config {
        model,
        ..args.config.clone()
    };
    let tokenizer = Arc::new(Tokenizer::read(args.checkpoint)?);
    let chat = ChatTemplate::load(args.checkpoint)
        .map_err(|error| TrainError::Input(error.to_string()))?;
    let catalog = open_catalog(&config, &mut |_, _, _| {})?;
    let held_out = catalog.held_out(&stage.common.curriculum.sources)?;
    let examples = subsample(held_out, stage.common.eval.prompts);
    if examples.is_empty() && stage.common.eval.prompts > 0 {
        return Err(TrainError::Input(format!(
            "stages.{}.eval: no source of the stage holds rows out (data.sources.NAME.held_out)",
            stage.name()
        )));
    }
    let shape = config.model.shape(&tokenizer)?;
    let chat = chat.map(Arc::new);
    let tasks = tasks_and_suites(&config);
    let builder = PromptBuilder::new(&tasks, tokenizer.clone(), chat.as_ref(), config.seed)?
        .with_vision(shape.vision);
    let counted = tokenizer.clone();
    let counter: TokenCounter = Arc::new(move |text| counted.encode(text).len());
    let scorer = Scorer::with_encoders(
        &config.rewards,
        scoring(&config.tasks),
        Some(counter),
        &config.encoder_set(args.device),
    )?;
    let place = (config.dtype.kind(), args.device);
    let policy = Rc::new(config.model.open(args.checkpoint, place)?);
    let rollout = stage.algorithm.options().rollout();
    let mut engine = engine::open(
        rollout.map(|rollout| rollout.engine).unwrap_or_default(),
        EngineOptions {
            policy: policy.clone(),
            images: None,
            tokenizer: Some(tokenizer),
            slots: rollout.map_or(0, |rollout| rollout.slots),
            cache_tokens: rollout.map_or(0, |rollout| rollout.cache_tokens),
            servers: rollout.map(RolloutConfig::servers).unwrap_or_default(),
        },
    )?;
    engine.sync(policy.as_ref(), 0)?;
    let ranks = Ranks::single(args.device);
    let own = sampling(stage);
    let (stops, pictures) = (
        (own.stop.clone(), own.include_stop),
        stage.common.eval.pictures,
    );
    let evaluation = Evaluation {
        config: &stage.common.eval,
        sampling: own,
        examples: &examples,
        builder: &builder,
        tasks: &config.tasks,
        scorer: &scorer,
        seed: config.seed,
        ranks: &ranks,
        interrupt: args.interrupt,
    };
    let id = StepId {
        stage: stage.name().to_owned(),
        step,
        policy_version: 0,
    };
    let mut sets = Vec::new();
    if !examples.is_empty() {
        let Some(made) = evaluation.run(engine.as_mut(), &id)? else {
            return Ok(None);
        };
        sets.extend(made);
    }
    if let Some(suite) = &stage.common.eval.suite {
        let evaluation = SuiteEvaluation {
            suite,
            builder: &builder,
            stops,
            seed: config.seed,
            world: (&ranks, args.interrupt),
            pictures,
        };
        let Some(made) = evaluation.run(engine.as_mut(), &id)? else {
            return Ok(None);
        };
        sets.push(made.set);
    }
    Ok(Some(sets))
}
