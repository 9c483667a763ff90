//! Engines and learners over a policy of this process.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, InitConfig, ModelConfig, Recompute, Tokenizer};
use rollout::Engine;
use rollout::engine::{self, EngineConfig, EngineOptions, ImageCache, ServersOptions};
use tch::{Device, Kind};
use trainer::config::{OptimizerConfig, ShardingConfig};
use trainer::{Learner, LearnerOptions, Ranks};

/// The tokenizer that the repository carries.
pub fn tokenizer() -> Arc<Tokenizer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart_tokenizer");
    Arc::new(Tokenizer::read(&folder).unwrap())
}

/// A small policy of random weights for that tokenizer; `vocab_size` rows of its head, 0: as many as it has tokens.
pub fn random(seed: u64, vocab_size: i64) -> Decoder {
    tch::set_num_threads(1);
    let init = InitConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        vocab_size,
        ..InitConfig::default()
    };
    let config = ModelConfig {
        init: Some(init),
        ..ModelConfig::default()
    };
    config
        .load(seed, &tokenizer(), (Kind::Float, Device::Cpu))
        .unwrap()
}

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
        servers: ServersOptions::default(),
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
        servers: ServersOptions::default(),
    };
    engine::open(EngineConfig::Local, options).unwrap()
}

/// A learner of `model` alone on the CPU, with the default optimizer.
pub fn learner(model: Decoder, recompute: Recompute) -> Learner {
    let options = LearnerOptions {
        optimizer: &OptimizerConfig::default(),
        recompute,
        ranks: Rc::new(Ranks::single(Device::Cpu)),
        sharding: &ShardingConfig::default(),
    };
    Learner::new(model, options).unwrap()
}
