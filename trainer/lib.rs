//! The trainer: a run's stages, their steps, checkpoints, metrics and exact resume.
//!
//! [`grpo`] holds the policy step, [`sft`] the supervised one; [`run`] the cadence around them.
//! Networks come from `models`, completions from `rollout`, scores from `rewards`.

pub mod bench;
pub mod bench_shape;
mod checkpoint;
pub mod config;
pub mod config_check;
pub mod encoder_bench;
mod error;
mod eval;
mod exchange;
mod files;
pub mod flops;
pub mod grpo;
pub mod head;
mod interrupt;
pub mod learner;
mod memory;
pub mod metrics;
pub mod optim;
mod plan;
mod prompts;
mod record;
pub mod replica;
mod resume;
mod run;
pub mod samples;
pub mod sft;
mod tally;
pub mod tensorboard;
mod world;

pub use checkpoint::{Checkpoint, State};
pub use error::TrainError;
pub use interrupt::Interrupt;
pub use learner::Learner;
pub use memory::TrainingMemory;
pub use plan::{check_inputs, open_catalog, plan};
pub use prompts::Prompts;
pub use record::peak_memory_gib;
pub use resume::{forbidden_changes, has_checkpoint};
pub use run::{Observer, Resume, RunEnd, RunOptions, encoders, run, scoring};
pub use world::{World, threads};

/// How a step ended.
pub enum StepEnd {
    /// It was finished.
    Done {
        /// Its metrics.
        metrics: metrics::Metrics,
        /// Its completions, all ranks' (none in SFT).
        rows: Vec<samples::SampleRow>,
        /// Tokens learnt from.
        tokens: u64,
    },
    /// It was dropped for an interrupt; nothing has changed.
    Dropped,
}
