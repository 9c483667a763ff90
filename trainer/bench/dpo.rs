//! The real DPO step over pairs whose lengths are given.

use std::rc::Rc;

use indexmap::IndexMap;
use rollout::engine::{self, EngineConfig, EngineOptions, ServersOptions};
use tch::{Device, Kind};

use super::fixed_loader::{FixedLoader, FixedRows};
use super::scoring::scorer;
use super::shape::Shape;
use super::step::{StepTimes, times};
use crate::algorithm::{
    Algorithm, PrepareContext, Prepared, ReferencePolicy, StageContext, StepContext, StepEnd,
};
use crate::config::{
    AlgorithmOptions, BatchConfig, DpoConfig, DpoReference, OptimizerConfig, ShardingConfig,
    StageCommon,
};
use crate::queue::BatchQueue;
use crate::{Interrupt, Learner, LearnerOptions, Ranks, TrainError, telemetry};

/// Pairs of a step.
const PAIRS: usize = 32;

/// A DPO step to measure: 32 pairs with prompts of 34 tokens.
#[derive(Debug, Clone)]
pub struct DpoBench {
    /// The network.
    pub shape: Shape,
    /// Kind and device.
    pub place: (Kind, Device),
    /// Length of each answer, chosen and rejected in turn, cyclically.
    pub lengths: Vec<usize>,
    /// Where the reference's log-probabilities come from.
    pub reference: DpoReference,
}

/// The times of `count` steps.
///
/// # Errors
/// The learner's.
pub fn dpo_times(bench: &DpoBench, count: usize) -> Result<Vec<StepTimes>, TrainError> {
    if bench.lengths.is_empty() || bench.lengths.contains(&0) {
        return Err(TrainError::Input(
            "lengths: a list of numbers >= 1 is needed".into(),
        ));
    }
    let _clock = telemetry::ensure_clock();
    let config = DpoConfig {
        reference: bench.reference,
        ..DpoConfig::default()
    };
    let common = common(&config, count);
    let scorer = scorer()?;
    let ranks = Rc::new(Ranks::single(bench.place.1));
    let mut learner = Learner::new(
        bench.shape.model(bench.place)?,
        LearnerOptions {
            optimizer: &common.optimizer,
            recompute: common.batch.recompute,
            ranks: ranks.clone(),
            sharding: &ShardingConfig::default(),
        },
    )?;
    let frozen = match bench.reference {
        DpoReference::Policy => Some(bench.shape.model(bench.place)?),
        DpoReference::Cached => None,
    };
    let interrupt = Interrupt::never();
    let tasks = IndexMap::new();
    let mut stage = StageContext {
        common: &common,
        tasks: &tasks,
        scorer: &scorer,
        reference: frozen
            .as_ref()
            .map_or(ReferencePolicy::Absent, ReferencePolicy::Network),
        interrupt: &interrupt,
        ranks,
        seed: 0,
        steps_before: 0,
    };
    let rows = FixedRows::Pairs(&bench.lengths);
    let mut loader = FixedLoader::new(bench.shape, learner.model.clone(), rows);
    let run = std::env::temp_dir().join(format!("svgrl-bench-dpo-{}", std::process::id()));
    let policy = learner.model.clone();
    let prepared = config.prepare(&mut PrepareContext {
        stage: &stage,
        run: &run,
        learner: &learner,
        loader: &mut loader,
        done: 0,
        changed: false,
        first_policy: &|| Ok(policy.clone()),
        progress: &mut |_, _, _| {},
    });
    // It was there for the numbers alone, which are in memory now.
    let _ = std::fs::remove_dir_all(&run);
    let prepared = prepared?;
    if let Prepared::Logprobs(known) = &prepared {
        stage.reference = ReferencePolicy::Logprobs(known);
    }
    let options = EngineOptions {
        policy: learner.model.clone(),
        images: None,
        tokenizer: None,
        slots: 0,
        cache_tokens: 0,
        servers: ServersOptions::default(),
    };
    let mut engine = engine::open(EngineConfig::default(), options)?;
    let mut out = Vec::new();
    let mut queue = BatchQueue::default();
    for step in 1..=count as u64 {
        let end = config.step(&mut StepContext {
            stage: &stage,
            learner: &mut learner,
            engine: engine.as_mut(),
            loader: &mut loader,
            queue: &mut queue,
            step,
        })?;
        if let StepEnd::Done { metrics, .. } = end {
            out.push(times(&metrics));
        }
    }
    Ok(out)
}

/// What the measured stage has besides its algorithm.
fn common(config: &DpoConfig, steps: usize) -> StageCommon {
    StageCommon {
        steps: steps as u64,
        optimizer: OptimizerConfig {
            learning_rate: 1e-6,
            ..OptimizerConfig::default()
        },
        batch: BatchConfig {
            size: PAIRS,
            micro_tokens: 2048,
            ..BatchConfig::default()
        },
        ..config.common_defaults()
    }
}
