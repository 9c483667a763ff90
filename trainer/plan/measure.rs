//! How long a stage's steps would take on this device, from a short measurement: passes of learning and steps of
//! decoding by networks of one and of two of the policy's blocks with random weights. What the second block adds is
//! what each block takes, the rest is taken once.
//!
//! Left out: pictures, adapters, rewards, evaluations, collectives, and that completions are seldom all of full length.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use models::{AdapterMode, Decoder, DecoderConfig, VisionFeatures};
use rollout::engine::{self, EngineConfig, EngineOptions, ServersOptions};
use rollout::{Request, Sampling, Submission};
use tch::{Device, Kind};

use super::footprint::StageShape;
use crate::TrainError;
use crate::config::ShardingConfig;
use crate::learn::{HeadOptions, LossNorm, MicroBatch, Trajectory, micro_batches};
use crate::{Learner, LearnerOptions, Ranks};

/// Token steps whose time is taken, after as many as [`FIRST`].
const MEASURED: usize = 24;

/// Token steps before.
const FIRST: usize = 4;

/// Seconds of one step of a stage on one rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StageTimes {
    /// Drawing completions of full length; none where the stage draws none here.
    pub(super) sampling: Option<f64>,
    /// All passes of learning, and of the reference policy.
    pub(super) learning: f64,
}

/// Measures `stage` on `device`.
///
/// # Errors
/// libtorch's, for lack of memory say.
pub(super) fn stage_times(
    stage: &StageShape,
    place: (Kind, Device),
) -> Result<StageTimes, TrainError> {
    let layers = stage.shape.num_layers as f64;
    let of_all = |one: f64, two: f64| one + (two - one).max(0.0) * (layers - 1.0);
    let mut learning = [0.0; 2];
    let mut sampling = [None; 2];
    for (at, blocks) in [1, 2].into_iter().enumerate() {
        let model = || {
            let config = DecoderConfig {
                num_layers: blocks,
                vision: None,
                ..stage.shape.clone()
            };
            let model = Decoder::new(config, place.0, place.1);
            model.randomise(0);
            model
        };
        learning[at] = learning_seconds(stage, model())?;
        sampling[at] = sampling_seconds(stage, model())?;
    }
    let sampling = match sampling {
        [Some(one), Some(two)] => Some(of_all(one, two)),
        _ => None,
    };
    Ok(StageTimes {
        sampling,
        learning: of_all(learning[0], learning[1]),
    })
}

/// Seconds of all passes of a step.
fn learning_seconds(stage: &StageShape, model: Decoder) -> Result<f64, TrainError> {
    let common = &stage.stage.common;
    let device = model.device();
    let options = LearnerOptions {
        optimizer: &common.optimizer,
        recompute: common.batch.recompute,
        ranks: Rc::new(Ranks::single(device)),
        sharding: &ShardingConfig::default(),
    };
    let mut learner = Learner::new(model, options)?;
    let (group, answers) = (trajectories(stage), stage.answers());
    let packed = stage.packed();
    let groups = (packed.rows / rows_of(stage).max(1)).max(1) as usize;
    let all: Vec<Trajectory> = (0..groups).flat_map(|_| group.clone()).collect();
    let norm = LossNorm {
        aggregation: crate::config::Aggregation::TokenMean,
        tokens: packed.targets as f64,
        sequences: (groups as i64 * answers) as f64,
        constant: 1.0,
    };
    let micros = micro_batches(&all, &norm, packed.rows as usize, device);
    let micro = micros
        .first()
        .ok_or_else(|| TrainError::Other("a stage without rows cannot be measured".into()))?;
    let head = HeadOptions {
        temperature: 1.0,
        rows: common.batch.logit_rows,
    };
    let pass = |learner: &mut Learner| -> Result<f64, TrainError> {
        let begun = Instant::now();
        if stage.stage.algorithm.options().needs().reference_policy {
            let (source, mode) = (VisionFeatures::Cached, AdapterMode::On);
            let own = Learner::log_probs(&learner.model, micro, &head, source, mode)?;
            let _ = own.sum(Kind::Double).double_value(&[]);
        }
        learner.forward_backward(micro, &head, &mut |_, logprobs, _| {
            logprobs.sum(logprobs.kind()).neg()
        })?;
        // Waits for the device.
        let _ = learner.sum_gradients()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    pass(&mut learner)?;
    let seconds = pass(&mut learner)?;
    let rows = (stage.own() * rows_of(stage)) as f64;
    Ok(seconds * rows / computed(micro))
}

fn computed(micro: &MicroBatch) -> f64 {
    micro.computed_rows().max(1) as f64
}

/// Rows of a prompt with its answers.
fn rows_of(stage: &StageShape) -> i64 {
    stage.prompt() + stage.answers() * stage.answer()
}

/// A prompt of the stage's longest with its answers.
fn trajectories(stage: &StageShape) -> Vec<Trajectory> {
    let vocabulary = stage.shape.vocab_size;
    let ids = |len: i64| (0..len).map(move |at| (at * 31 + 7) % vocabulary);
    let prompt: Arc<[i64]> = ids(stage.prompt().max(1)).collect();
    let answer = stage.answer().max(2);
    let one = |_| Trajectory {
        prompt: prompt.clone(),
        view: None,
        ids: ids(answer).collect(),
        sampler_logprobs: vec![0.0; answer as usize],
        advantage: 1.0,
    };
    (0..stage.answers()).map(one).collect()
}

/// Seconds of drawing a step's completions, all of full length; none where nothing is drawn here.
fn sampling_seconds(stage: &StageShape, model: Decoder) -> Result<Option<f64>, TrainError> {
    let options = stage.stage.algorithm.options();
    let local = options.rollout().filter(|rollout| !rollout.is_elsewhere());
    let Some(rollout) = local else {
        return Ok(None);
    };
    let all = stage.own() * options.samples() as i64;
    let slots = match rollout.slots as i64 {
        0 => all,
        slots => slots.min(all),
    };
    let vocabulary = model.config.vocab_size;
    let mut engine = engine::open(
        EngineConfig::Local,
        EngineOptions {
            policy: Rc::new(model),
            images: None,
            tokenizer: None,
            slots: 0,
            cache_tokens: 0,
            servers: ServersOptions::default(),
        },
    )?;
    let ids: Arc<[i64]> = (0..stage.prompt().max(1))
        .map(|at| (at * 31 + 7) % vocabulary)
        .collect();
    let mut drawn = |tokens: usize| -> Result<f64, TrainError> {
        let request = Request {
            group: 0,
            ids: ids.clone(),
            images: None,
            samples: slots as usize,
            draw: 0,
            lengths: Some(vec![tokens; slots as usize].into()),
        };
        let begun = Instant::now();
        engine.submit(Submission {
            requests: vec![request],
            sampling: Sampling {
                max_new_tokens: tokens,
                ..Sampling::default()
            },
            seed: 0,
        })?;
        while engine.next_unless(&|| false)?.is_some() {}
        Ok(begun.elapsed().as_secs_f64())
    };
    drawn(FIRST)?;
    let (few, many) = (drawn(FIRST)?, drawn(FIRST + MEASURED)?);
    let step = (many - few).max(0.0) / MEASURED as f64;
    let rounds = (all as f64 / slots.max(1) as f64).ceil();
    Ok(Some(step * rollout.max_new_tokens as f64 * rounds))
}
