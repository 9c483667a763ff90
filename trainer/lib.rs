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
mod checkpoint_job;
mod checkpoint_parts;
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
pub mod learnt_rows;
mod loader;
mod memory;
pub mod metrics;
mod optimizer_files;
mod pairs;
mod peak_memory;
pub mod plan;
mod policy_check;
mod prompt_builder;
pub mod queue;
mod ranked_engine;
mod reference_logprobs;
mod resume;
mod rollout_batch;
mod rollouts;
mod run;
mod run_lock;
mod samplers;
pub mod samples;
mod sft;
mod stage_survey;
mod step_samples;
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
pub use memory::{Learning, TrainingMemory};
pub use pairs::{PairCounts, PairsJob, ScoredCandidate, make_pairs, scored_candidates};
pub use peak_memory::peak_memory_gib;
pub use plan::{RunPlan, check_inputs, plan};
pub use prompt_builder::PromptBuilder;
pub use reference_logprobs::ReferenceLogprobs;
pub use resume::{Resume, move_aside};
pub use rollout_batch::{OpenRollout, RolloutArgs, ScoredGroup};
pub use rollouts::RolloutWorkers;
pub use run::{Observer, RunEnd, RunHeader, RunOptions, SourceCounts, run};
pub use run_lock::{Holder, RunLock};
pub use samplers::{SamplerSeat, check_placement, open_pool, samplers_beside};
pub use stage_survey::{Bound, RowTokens, StageSurvey};
pub use step_samples::StepSamples;
pub use world::{World, threads};
