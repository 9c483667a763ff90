//! Samplers that are processes of this program (`rollout.placement: dedicated`): learners ask them for completions over TCP,
//! and rank 0 broadcasts its weights to them after each update, in a process group of their own.
//!
//! `card` is how they are found, `line` and `wire` how they speak; `engine` with `pool`, `queue` and `give` is the learner's
//! side, `serve` with `work` the sampler's. Left out on purpose: samplers that keep weights of several versions at a time.

mod buckets;
mod card;
mod config;
mod engine;
mod give;
mod line;
mod pool;
mod queue;
mod serve;
mod wire;
mod work;

use std::cell::RefCell;
use std::rc::Rc;

pub use card::{SamplerCard, SamplerDesk};
pub use config::{Placement, SamplersConfig};
pub use pool::{JudgeSampler, LearnerPlace, SamplerPool};
pub use serve::{BuildPolicy, BuiltPolicy, SamplerEnd, SamplerPost, serve};

use super::{Engine, EngineOptions};

/// The engine that samples by `pool`.
pub fn dedicated(
    options: EngineOptions,
    config: SamplersConfig,
    pool: Rc<RefCell<SamplerPool>>,
) -> Box<dyn Engine> {
    Box::new(engine::DedicatedEngine::new(options, config, pool))
}
