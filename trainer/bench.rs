//! Whole pieces of work for measuring: a GRPO step with forced completion lengths, decoding,
//! scoring. The code that runs is the trainer's own; only the prompts, the lengths and the texts
//! that are scored are given from outside, so that a peer can be given the same.

use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;
use rewards::rules::Mse;
use rewards::{
    Candidate, Reference, RewardConfig, RewardsConfig, RubricConfig, ScoreJob, Scorer, TaskScoring,
};
use rollout::data::{Catalog, CurriculumConfig, Cursor, DataConfig, ShapesConfig, SourceConfig};
use rollout::{Engine, Finished, LocalEngine, Prompt, Request, RolloutError, Sampling};
use tch::{Device, Kind};
use torch_ext::ProcessGroup;

use crate::bench_shape::Shape;
use crate::config::{BatchConfig, GrpoStage, KlConfig, OptimizerConfig, RolloutConfig};
use crate::grpo::{Collect, GrpoStats, Trainer, collect};
use crate::{Interrupt, Learner, TrainError};

/// Completions of a prompt.
const GROUP: usize = 8;

/// `count` drawings of the built-in source.
///
/// # Errors
/// None in practice: the source is built in.
pub fn shapes(count: usize) -> Result<Vec<String>, TrainError> {
    let source = SourceConfig::Shapes(ShapesConfig {
        count,
        ..ShapesConfig::default()
    });
    let config = DataConfig {
        sources: IndexMap::from([("shapes".to_owned(), source)]),
        ..DataConfig::default()
    };
    let catalog = Arc::new(Catalog::open(&config, std::path::Path::new(""), "draw")?);
    let draws = Cursor::new(catalog, &CurriculumConfig::default(), 0)?.next(count)?;
    Ok(draws
        .into_iter()
        .filter_map(|draw| draw.example.reference.svg)
        .collect())
}

/// One task `draw` with the mean squared error at 224 pixels.
pub fn scoring_tasks() -> IndexMap<String, TaskScoring> {
    let rubric = RubricConfig {
        rewards: vec![RewardConfig::Mse(Mse::default())],
        ..RubricConfig::default()
    };
    let task = TaskScoring {
        completion: rewards::CompletionConfig::default(),
        render: svg::RenderConfig::default(),
        rubric,
        ..TaskScoring::default()
    };
    IndexMap::from([("draw".to_owned(), task)])
}

fn scorer() -> Result<Scorer, TrainError> {
    Ok(Scorer::new(
        &RewardsConfig::default(),
        scoring_tasks(),
        None,
    )?)
}

/// Each of `sources` as a completion scored against the next one.
///
/// # Errors
/// The renderer's worker program is missing.
pub fn scoring_jobs(sources: &[String]) -> Result<(Scorer, Vec<ScoreJob>), TrainError> {
    let jobs = sources
        .iter()
        .enumerate()
        .map(|(index, source)| ScoreJob {
            key: index as u64,
            task: "draw".into(),
            step: 0,
            measure: false,
            prompt: "".into(),
            reference: Arc::new(Reference {
                svg: Some(sources[(index + 1) % sources.len()].clone()),
                ..Reference::default()
            }),
            candidate: Candidate {
                text: source.clone(),
                truncated: false,
            },
        })
        .collect();
    Ok((scorer()?, jobs))
}

/// New tokens per second when `batch` sequences of `tokens` tokens are decoded together.
///
/// # Errors
/// The engine's.
pub fn decode_rate(
    shape: Shape,
    place: (Kind, Device),
    batch: usize,
    tokens: usize,
) -> Result<f64, TrainError> {
    let model = shape.model(place)?;
    let sampling = Sampling {
        max_new_tokens: tokens,
        ..Sampling::default()
    };
    let mut engine = LocalEngine::new(&model, None, sampling, (0, 0))?;
    let request = |group| -> Result<Request, TrainError> {
        let asked = shape.prompt(&model, group)?;
        let mut views = model.encode_images(asked.shown.as_slice())?;
        Ok(Request {
            group,
            ids: asked.ids,
            view: views.pop(),
            samples: 1,
            draw: group as u64,
            lengths: None,
        })
    };
    let requests: Result<Vec<Request>, TrainError> = (0..batch).map(request).collect();
    engine.submit(requests?)?;
    let started = Instant::now();
    while engine.next()?.is_some() {}
    Ok((batch * tokens) as f64 / started.elapsed().as_secs_f64())
}

/// An engine whose completions have given lengths, and given texts to score.
struct Forced<'a> {
    inner: LocalEngine<'a>,
    lengths: &'a [usize],
    texts: &'a [String],
}

impl Engine for Forced<'_> {
    fn submit(&mut self, mut requests: Vec<Request>) -> Result<(), RolloutError> {
        for request in &mut requests {
            let own = (0..request.samples)
                .map(|index| self.lengths[(request.group * GROUP + index) % self.lengths.len()]);
            request.lengths = Some(own.collect());
        }
        self.inner.submit(requests)
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        let mut finished = self.inner.next_unless(stop)?;
        if let Some(finished) = &mut finished {
            let text = &self.texts[(finished.group * GROUP + finished.index) % self.texts.len()];
            finished.completion.text = Some(text.clone());
        }
        Ok(finished)
    }
}

/// A GRPO step to measure: 8 prompts of 34 tokens, and a picture where the network sees, 8 completions each.
#[derive(Debug, Clone)]
pub struct StepBench {
    /// The network.
    pub shape: Shape,
    /// Kind and device.
    pub place: (Kind, Device),
    /// Weight of the KL term; 0 has no reference policy.
    pub kl: f64,
    /// Length of each completion, cyclically.
    pub lengths: Vec<usize>,
}

/// Seconds of `count` steps: whole, generation, exposed scoring, learning.
///
/// # Errors
/// The engine's or the learner's.
pub fn step_seconds(bench: &StepBench, count: usize) -> Result<Vec<[f64; 4]>, TrainError> {
    if bench.lengths.is_empty() || bench.lengths.contains(&0) {
        return Err(TrainError::Input(
            "lengths: a list of numbers >= 1 is needed".into(),
        ));
    }
    let longest = bench.lengths.iter().copied().max().unwrap_or(1);
    let stage = GrpoStage {
        rollout: RolloutConfig {
            group_size: GROUP,
            max_new_tokens: longest,
            ..RolloutConfig::default()
        },
        kl: KlConfig {
            coefficient: bench.kl,
            ..KlConfig::default()
        },
        optimizer: OptimizerConfig {
            learning_rate: 1e-6,
            ..OptimizerConfig::default()
        },
        batch: BatchConfig {
            size: 8,
            micro_tokens: 2048,
            ..BatchConfig::default()
        },
        ..GrpoStage::default()
    };
    let texts = shapes(64)?;
    let scorer = scorer()?;
    let interrupt = Interrupt::never();
    let reference = (bench.kl != 0.0)
        .then(|| bench.shape.model(bench.place))
        .transpose()?;
    let trainer = Trainer {
        config: &stage,
        scorer: &scorer,
        tasks: &IndexMap::new(),
        reference,
        seed: 0,
        interrupt: &interrupt,
    };
    let mut learner = Learner::new(
        bench.shape.model(bench.place)?,
        &stage.optimizer,
        stage.batch.recompute,
        ProcessGroup::Solo,
    )?;
    let mut out = Vec::new();
    for step in 1..=count {
        let started = Instant::now();
        let prompt = |index| {
            let asked = bench.shape.prompt(&learner.model, index)?;
            Ok(Prompt {
                id: index.to_string(),
                task: "draw".into(),
                text: Some("".into()),
                ids: asked.ids,
                shown: asked.shown,
                reference: Arc::new(Reference {
                    svg: texts.get(index).cloned(),
                    ..Reference::default()
                }),
                draw: (step * stage.batch.size + index) as u64,
            })
        };
        let prompts: Result<Vec<Prompt>, TrainError> = (0..stage.batch.size).map(prompt).collect();
        let prompts = prompts?;
        let how = Collect {
            model: &learner.model,
            samples: GROUP,
            step: step as u64,
            measure: false,
            policy_version: 0,
            interrupt: &interrupt,
        };
        let collected = {
            let inner = LocalEngine::new(&learner.model, None, stage.rollout.sampling(), (0, 0))?;
            let mut engine = Forced {
                inner,
                lengths: &bench.lengths,
                texts: &texts,
            };
            collect(&mut engine, &scorer, prompts, &how)?
        };
        let Some((scored, times)) = collected else {
            break;
        };
        let learning = Instant::now();
        let shaped = trainer.shaped_rewards(&learner, &scored, step as u64)?;
        let scored = scored.into_iter().zip(shaped).collect();
        let mut stats = GrpoStats::default();
        let (_, lessons) = trainer.advantages(&learner, scored, step as u64, &mut stats)?;
        trainer.learn(
            &mut learner,
            &lessons,
            stage.optimizer.learning_rate,
            &mut stats,
        )?;
        out.push([
            started.elapsed().as_secs_f64(),
            times.generate_s,
            times.score_exposed_s,
            learning.elapsed().as_secs_f64(),
        ]);
    }
    Ok(out)
}
