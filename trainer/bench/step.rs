//! The real GRPO step over prompts, completion lengths and texts that are given.

use std::rc::Rc;

use indexmap::IndexMap;
use rollout::engine::{
    self, Capabilities, EngineOptions, EngineStats, ServersOptions, WeightBlocks,
};
use rollout::{Engine, Finished, RolloutError, Submission};
use tch::{Device, Kind};

use super::fixed_loader::{FixedLoader, FixedRows};
use super::scoring::{scorer, shapes};
use super::shape::Shape;
use crate::algorithm::{Algorithm, ReferencePolicy, StageContext, StepContext, StepEnd};
use crate::config::{
    AlgorithmOptions, BatchConfig, GrpoConfig, KlConfig, OptimizerConfig, RolloutConfig,
    ShardingConfig, StageCommon,
};
use crate::learn::flops;
use crate::metrics::{Metrics, keys};
use crate::queue::BatchQueue;
use crate::{Interrupt, Learner, LearnerOptions, Ranks, TrainError, telemetry};

/// Completions of a prompt.
const GROUP: usize = 8;

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
    /// Rank of the adapters that alone learn; 0: all weights learn.
    pub lora: i64,
}

/// Seconds of one step.
#[derive(Debug, Clone, Copy)]
pub struct StepTimes {
    /// The whole step.
    pub step: f64,
    /// Sampling.
    pub generate: f64,
    /// Scoring that sampling did not hide.
    pub score_exposed: f64,
    /// Forward and backward passes, reduction and optimizer.
    pub learn: f64,
    /// Model FLOPs of the learner's forward and backward passes, per second of these, in 10^12; 0 where none were counted.
    pub learn_tflops: f64,
    /// These over what the device does at most; `None` where that is not known.
    pub mfu: Option<f64>,
}

/// An engine whose completions have given lengths, and given texts to score.
struct Forced<'a> {
    inner: Box<dyn Engine>,
    lengths: &'a [usize],
    texts: &'a [String],
}

impl Engine for Forced<'_> {
    fn submit(&mut self, mut submission: Submission) -> Result<(), RolloutError> {
        for request in &mut submission.requests {
            let own = (0..request.samples)
                .map(|index| self.lengths[(request.group * GROUP + index) % self.lengths.len()]);
            request.lengths = Some(own.collect());
        }
        self.inner.submit(submission)
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        let mut finished = self.inner.next_unless(stop)?;
        if let Some(finished) = &mut finished {
            let text = &self.texts[(finished.group * GROUP + finished.index) % self.texts.len()];
            finished.completion.text = Some(text.clone());
        }
        Ok(finished)
    }

    fn sync(&mut self, weights: &dyn WeightBlocks, version: u64) -> Result<(), RolloutError> {
        self.inner.sync(weights, version)
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// The times of `count` steps.
///
/// # Errors
/// The engine's or the learner's.
pub fn step_times(bench: &StepBench, count: usize) -> Result<Vec<StepTimes>, TrainError> {
    if bench.lengths.is_empty() || bench.lengths.contains(&0) {
        return Err(TrainError::Input(
            "lengths: a list of numbers >= 1 is needed".into(),
        ));
    }
    let _clock = telemetry::ensure_clock();
    let (config, common) = stage(bench);
    let texts = shapes(64)?;
    let scorer = scorer()?;
    let ranks = Rc::new(Ranks::single(bench.place.1));
    let reference = (bench.kl != 0.0)
        .then(|| bench.shape.model(bench.place))
        .transpose()?;
    let mut learner = Learner::new(
        bench.shape.adapted(bench.lora, bench.place)?,
        LearnerOptions {
            optimizer: &common.optimizer,
            recompute: common.batch.recompute,
            ranks: ranks.clone(),
            sharding: &ShardingConfig::default(),
        },
    )?;
    let stage = StageContext {
        common: &common,
        tasks: &IndexMap::new(),
        scorer: &scorer,
        reference: reference
            .as_ref()
            .map_or(ReferencePolicy::Absent, ReferencePolicy::Network),
        interrupt: &Interrupt::never(),
        ranks,
        seed: 0,
        steps_before: 0,
    };
    let options = EngineOptions {
        policy: learner.model.clone(),
        images: Some(learner.images.clone()),
        tokenizer: None,
        slots: 0,
        cache_tokens: 0,
        servers: ServersOptions::default(),
    };
    let mut engine = Forced {
        inner: engine::open(config.rollout.engine, options)?,
        lengths: &bench.lengths,
        texts: &texts,
    };
    let rows = FixedRows::Prompts(&texts);
    let mut loader = FixedLoader::new(bench.shape, learner.model.clone(), rows);
    let mut out = Vec::new();
    let mut queue = BatchQueue::default();
    for step in 1..=count as u64 {
        let before = learner.flops;
        let end = config.step(&mut StepContext {
            stage: &stage,
            learner: &mut learner,
            engine: &mut engine,
            loader: &mut loader,
            queue: &mut queue,
            step,
        })?;
        if let StepEnd::Done { metrics, .. } = end {
            let mut times = times(&metrics);
            let seconds = metrics.get(&keys::TIME_FORWARD_BACKWARD).unwrap_or(0.0);
            if seconds > 0.0 {
                let done = (learner.flops - before) / seconds;
                times.learn_tflops = done / 1e12;
                times.mfu = flops::peak(0.0, bench.place.1, bench.place.0).map(|peak| done / peak);
            }
            out.push(times);
        }
    }
    Ok(out)
}

/// The measured stage: 8 prompts a step, one update.
fn stage(bench: &StepBench) -> (GrpoConfig, StageCommon) {
    let config = GrpoConfig {
        rollout: RolloutConfig {
            group_size: GROUP,
            max_new_tokens: bench.lengths.iter().copied().max().unwrap_or(1),
            ..RolloutConfig::default()
        },
        kl: KlConfig {
            coefficient: bench.kl,
            ..KlConfig::default()
        },
        ..GrpoConfig::default()
    };
    let common = StageCommon {
        optimizer: OptimizerConfig {
            learning_rate: 1e-6,
            ..OptimizerConfig::default()
        },
        batch: BatchConfig {
            size: 8,
            micro_tokens: 2048,
            ..BatchConfig::default()
        },
        ..config.common_defaults()
    };
    (config, common)
}

pub(super) fn times(metrics: &Metrics) -> StepTimes {
    let seconds = |metric| metrics.get(metric).unwrap_or(0.0);
    StepTimes {
        step: seconds(&keys::TIME_STEP),
        generate: seconds(&keys::TIME_GENERATE),
        score_exposed: seconds(&keys::TIME_SCORE_EXPOSED),
        learn: seconds(&keys::TIME_FORWARD_BACKWARD)
            + seconds(&keys::TIME_REDUCE)
            + seconds(&keys::TIME_OPTIM),
        learn_tflops: 0.0,
        mfu: None,
    }
}
