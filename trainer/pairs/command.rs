//! The making alone, without a run: `svgrl data pairs`.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use models::{ModelConfig, Tokenizer};
use rewards::{Scorer, TokenCounter};
use rollout::data::{CurriculumConfig, Cursor};
use rollout::engine::{self, EngineOptions};
use rollout::template::ChatTemplate;
use serde_json::json;
use tch::Device;

use super::counts::PairCounts;
use super::journal::{MadeWith, PairJournal};
use super::jury::CandidateJury;
use super::make::{MakingPlan, PairMaking};
use crate::TrainError;
use crate::config::{Config, JudgeSees, PairsConfig, StageConfig};
use crate::data::open_catalog;
use crate::interrupt::Interrupt;
use crate::learn::Ranks;
use crate::prompt_builder::PromptBuilder;
use crate::weights_digest::weights_digest;

/// Prompts that are sampled together where no stage says how many.
const PORTION: usize = 32;

/// A making of pairs.
pub struct PairsJob<'a> {
    /// Sources, tasks, seed and kind of numbers; its policy is not looked at.
    pub config: &'a Config,
    /// The stage whose sources are drawn from and whose judge is asked; absent: all sources.
    pub stage: Option<&'a StageConfig>,
    /// How pairs are made.
    pub pairs: &'a PairsConfig,
    /// The policy's folder, with its tokenizer.
    pub model: &'a Path,
    /// The file of pairs; one that was made alike is gone on with.
    pub out: &'a Path,
    /// Where to compute.
    pub device: Device,
}

/// Makes the pairs of `job`; `progress` hears of prompts done and all.
///
/// # Errors
/// Wrong config, data, policy or output; the engine's; a judge or service that is gone.
pub fn make_pairs(
    job: &PairsJob,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PairCounts, TrainError> {
    let mut config = job.config.clone();
    config.model = ModelConfig {
        path: Some(job.model.to_owned()),
        images: config.model.images,
        ignore: config.model.ignore.clone(),
        ..ModelConfig::default()
    };
    let tokenizer = Arc::new(Tokenizer::read(job.model)?);
    let chat =
        ChatTemplate::load(job.model).map_err(|error| TrainError::Input(error.to_string()))?;
    let catalog = Arc::new(open_catalog(&config, &mut |_, _, _| {})?);
    let shape = config.model.shape(&tokenizer)?;
    let chat = chat.map(Arc::new);
    let builder = PromptBuilder::new(&config.tasks, tokenizer.clone(), chat.as_ref(), config.seed)?
        .with_vision(shape.vision);
    let counter: TokenCounter = {
        let tokenizer = tokenizer.clone();
        Arc::new(move |text| tokenizer.encode(text).len())
    };
    let scorings = config.scorings();
    let encoders = config.encoder_set(job.device);
    let scorer =
        Scorer::with_encoders(&config.rewards, scorings.clone(), Some(counter), &encoders)?;
    let place = (config.dtype.kind(), job.device);
    let policy = Rc::new(config.model.load(config.seed, &tokenizer, place)?);
    let curriculum = match job.stage {
        Some(stage) => stage.common.curriculum.clone(),
        None => CurriculumConfig::default(),
    };
    let rows = catalog.summary().into_iter().filter(|source| {
        curriculum.sources.is_empty() || curriculum.sources.contains(&source.name)
    });
    let plan = MakingPlan {
        prompts: match job.pairs.prompts {
            0 => rows.map(|source| source.train).sum(),
            count => count,
        },
        portion: job.stage.map_or(PORTION, |stage| stage.common.batch.size),
        longest: match job.stage {
            Some(stage) => stage.algorithm.options().length_bounds().prompt.1,
            None => job.pairs.rollout.max_prompt_tokens,
        },
        seed: config.seed,
        scored_by: job
            .pairs
            .scored_by(job.stage.map_or("", |stage| stage.name())),
    };
    let sources = catalog.summary().into_iter();
    let sources: Vec<(String, String)> = sources.map(|one| (one.name, one.digest)).collect();
    let made = MadeWith {
        policy: weights_digest(&policy)?,
        options: json!({
            "pairs": job.pairs,
            "seed": plan.seed,
            "longest": plan.longest,
            "curriculum": curriculum,
            "tasks": scorings,
            "sources": sources,
        }),
        portion: plan.portion,
        prompts: plan.prompts,
    };
    let ranks = Ranks::single(job.device);
    let (mut journal, before) = PairJournal::open(job.out, &ranks)?;
    let there = before.is_some() || job.out.exists();
    if there && before.as_ref() != Some(&made) {
        return Err(TrainError::Input(format!(
            "--out {}: the file is there, and was not made with this policy, data and options: take another name, or take it away",
            job.out.display()
        )));
    }
    if !(there && journal.is_whole(plan.prompts)) {
        journal.begin(&made, false, true)?;
        let mut cursor = Cursor::new(catalog, &curriculum, config.seed)?;
        let mut engine = engine::open(
            job.pairs.rollout.engine,
            EngineOptions {
                policy: policy.clone(),
                images: None,
                tokenizer: Some(tokenizer),
                slots: job.pairs.rollout.slots,
                cache_tokens: job.pairs.rollout.cache_tokens,
                servers: job.pairs.rollout.servers(),
            },
        )?;
        engine.sync(policy.as_ref(), 0)?;
        let jury = match (&job.pairs.judge, job.pairs.judge_sees) {
            (Some(judge), JudgeSees::All) => Some(CandidateJury::open(judge, scorings)?),
            _ => None,
        };
        let mut making = PairMaking {
            config: job.pairs,
            plan: &plan,
            builder: &builder,
            engine: engine.as_mut(),
            scorer: &scorer,
            jury: jury.as_ref(),
            ranks: &ranks,
            interrupt: &Interrupt::never(),
        };
        making.make(&mut cursor, &mut journal, progress)?;
    }
    Ok(PairCounts::of(journal.rows()))
}
