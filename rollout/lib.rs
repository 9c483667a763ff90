//! rollout
pub mod data;
pub mod prompt;
pub mod template;
