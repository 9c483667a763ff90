//! Engines and learners over a policy of this process.

use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, Recompute, Tokenizer};
use rollout::Engine;
use rollout::engine::{self, EngineConfig, EngineOptions, ImageCache};
use tch::Device;
use trainer::config::OptimizerConfig;
use trainer::{Learner, LearnerOptions, Ranks};

/// The local engine over `model`, `slots` sequences at a time (0: all).
pub fn engine(
    model: &Rc<Decoder>,
    tokenizer: Option<&Arc<Tokenizer>>,
    slots: usize,
) -> Box<dyn Engine> {
    let options = EngineOptions {
        policy: model.clone(),
        images: None,
        tokenizer: tokenizer.cloned(),
        slots,
        cache_tokens: 0,
    };
    engine::open(EngineConfig::Local, options).unwrap()
}

/// The local engine over `model` that leaves encoded pictures in `images`.
pub fn seeing_engine(model: &Rc<Decoder>, images: &Rc<ImageCache>) -> Box<dyn Engine> {
    let options = EngineOptions {
        policy: model.clone(),
        images: Some(images.clone()),
        tokenizer: None,
        slots: 0,
        cache_tokens: 0,
    };
    engine::open(EngineConfig::Local, options).unwrap()
}

/// A learner of `model` alone on the CPU, with the default optimizer.
pub fn learner(model: Decoder, recompute: Recompute) -> Learner {
    let options = LearnerOptions {
        optimizer: &OptimizerConfig::default(),
        recompute,
        ranks: Rc::new(Ranks::single(Device::Cpu)),
    };
    Learner::new(model, options).unwrap()
}
