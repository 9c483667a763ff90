//! Where completions come from. An [`Engine`] is opened once a stage by [`open`]; what it is asked
//! is plain data, so that one in another process or behind HTTP answers the same questions.
//!
//! The engine in this process is `local`, that of servers elsewhere `http`, that of samplers of this program `dedicated`,
//! which has to be told where these are; nothing outside their folders, [`open`] and [`dedicated()`] names them. Another engine is
//! a file with its `impl Engine`, a word of [`EngineConfig`], and an arm of [`open`].

mod dedicated;
mod http;
mod images;
mod interface;
mod local;
mod options;
mod sampling;
mod stop;
mod weights;

pub use dedicated::{
    BuildPolicy, BuiltPolicy, JudgeSampler, LearnerPlace, Placement, SamplerCard, SamplerDesk,
    SamplerEnd, SamplerPool, SamplerPost, SamplersConfig, dedicated, serve,
};
pub use http::{ServersConfig, WeightUpdate};
pub use images::ImageCache;
pub use interface::{
    Capabilities, Engine, EngineStats, Finished, Request, ServerStats, Submission,
};
pub use options::{AheadOptions, EngineConfig, EngineOptions, PartialCompletions, ServersOptions};
pub use sampling::Sampling;
pub use weights::WeightBlocks;

use crate::RolloutError;

/// Opens the engine that `config` names.
///
/// # Errors
/// An engine that does not answer; none in this process.
pub fn open(config: EngineConfig, options: EngineOptions) -> Result<Box<dyn Engine>, RolloutError> {
    match config {
        EngineConfig::Local => Ok(Box::new(local::LocalEngine::new(options))),
        EngineConfig::Vllm => Ok(Box::new(http::vllm(options)?)),
        EngineConfig::Sglang => Ok(Box::new(http::sglang(options)?)),
    }
}
