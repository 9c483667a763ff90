//! Where completions come from. An [`Engine`] is opened once a stage by [`open`]; what it is asked
//! is plain data, so that one in another process or behind HTTP answers the same questions.
//!
//! The engine in this process is `local`; nothing outside its folder and [`open`] names it. Another engine
//! is a file with its `impl Engine`, a word of [`EngineConfig`], and an arm of [`open`].

mod images;
mod interface;
mod local;
mod options;
mod sampling;
mod weights;

pub use images::ImageCache;
pub use interface::{Capabilities, Engine, EngineStats, Finished, Request, Submission};
pub use options::{EngineConfig, EngineOptions};
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
    }
}
