//! Prompts in, completions out.
//!
//! Data sources and curricula draw prompts; an [`Engine`] samples completions of them. Nothing
//! here knows of gradients or of rewards beyond the [`rewards::Reference`] that a prompt carries.

mod completion;
pub mod data;
pub mod engine;
mod error;
mod message;
pub mod prompt;
mod random;
pub mod template;

pub use completion::{Completion, FinishReason, Group, Prompt, VersionSpan};
pub use engine::{Engine, Finished, Request, Sampling, Submission};
pub use error::RolloutError;
pub use random::{DrawKey, mix};
