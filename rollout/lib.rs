//! rollout
pub mod data;
