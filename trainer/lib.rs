//! The trainer: a run's stages, their steps, checkpoints, metrics and exact resume.
//!
//! The way in: [`run`] goes through the stages of a [`config::Config`]; each step is an
//! [`Algorithm`]'s over a [`StepContext`]. `grpo` holds the policy step, `sft` the supervised one;
//! [`learn`] what both learn with. Networks come from `models`, completions from `rollout`, scores from
//! `rewards`.

mod agreement;
mod algorithm;
pub mod bench;

mod checkpoint;
pub mod config;
pub mod config_check;
mod data;
mod draw_stats;

mod error;
pub mod eval;
pub mod files;
pub mod grpo;
mod inputs;
mod interrupt;
pub mod learn;
mod loader;
mod memory;
pub mod metrics;
mod peak_memory;
mod plan;
mod policy_check;
mod prompt_builder;
mod resume;
mod rollouts;
mod run;
mod run_lock;
pub mod samples;
mod sft;
mod stage_survey;
pub mod telemetry;
pub mod tensorboard;
mod world;

pub use algorithm::{Algorithm, StageContext, StepContext, StepEnd};
pub use checkpoint::{Checkpoint, Provenance, State};
pub use config::scoring;
pub use data::open_catalog;
pub use draw_stats::DrawStats;
pub use error::TrainError;
pub use inputs::{Change, Inputs, SourceInput};
pub use interrupt::Interrupt;
pub use learn::{Learner, LearnerOptions, Ranks};
pub use loader::{DataLoader, LoadedPrompts, Loader, PromptRequest, Share};
pub use memory::TrainingMemory;
pub use peak_memory::peak_memory_gib;
pub use plan::{check_inputs, plan};
pub use prompt_builder::PromptBuilder;
pub use resume::{Resume, move_aside};
pub use rollouts::ScoredGroup;
pub use run::{Observer, RunEnd, RunOptions, run};
pub use run_lock::{Holder, RunLock};
pub use stage_survey::{Bound, StageSurvey};
pub use world::{World, threads};
