//! The trainer: a run's stages, their steps, checkpoints, metrics and exact resume.
//!
//! The way in: [`run`] goes through the stages of a [`config::Config`]; each step is an
//! [`Algorithm`]'s over a [`StepContext`]. `grpo` holds the policy step, `sft` the supervised one, `dpo` that of pairs;
//! [`learn`] what both learn with. Networks come from `models`, completions from `rollout`, scores from
//! `rewards`.

mod agreement;
mod algorithm;
pub mod bench;
mod best;

mod checkpoint;
pub mod config;
pub mod config_check;
mod data;
pub mod dpo;
mod draw_stats;

mod epochs;
mod error;
pub mod eval;
mod evaluate_checkpoint;
mod extended;
pub mod files;
pub mod grpo;
mod inputs;
mod interrupt;
pub mod learn;
mod loader;
mod memory;
pub mod metrics;
mod pairs;
mod peak_memory;
mod plan;
mod policy_check;
mod prompt_builder;
mod reference_logprobs;
mod resume;
mod rollouts;
mod run;
mod run_lock;
pub mod samples;
mod sft;
mod stage_survey;
pub mod telemetry;
pub mod tensorboard;
mod weights_digest;
mod world;

pub use algorithm::{
    Algorithm, PrepareContext, Prepared, ReferencePolicy, StageContext, StepContext, StepEnd,
};
pub use best::best_checkpoint;
pub use checkpoint::{Checkpoint, Provenance, State};
pub use config::scoring;
pub use data::open_catalog;
pub use draw_stats::DrawStats;
pub use epochs::settle_steps;
pub use error::TrainError;
pub use evaluate_checkpoint::{CheckpointEvaluation, CheckpointScores, evaluate_checkpoint};
pub use inputs::{Change, Inputs, SourceInput};
pub use interrupt::Interrupt;
pub use learn::{Learner, LearnerOptions, Ranks};
pub use loader::{DataLoader, LoadedPrompts, Loader, PromptRequest, Share};
pub use memory::TrainingMemory;
pub use pairs::{PairCounts, PairsJob, ScoredCandidate, make_pairs, scored_candidates};
pub use peak_memory::peak_memory_gib;
pub use plan::{check_inputs, plan};
pub use prompt_builder::PromptBuilder;
pub use reference_logprobs::ReferenceLogprobs;
pub use resume::{Resume, move_aside};
pub use rollouts::ScoredGroup;
pub use run::{Observer, RunEnd, RunOptions, run};
pub use run_lock::{Holder, RunLock};
pub use stage_survey::{Bound, RowTokens, StageSurvey};
pub use world::{World, threads};
