//! What every algorithm learns with: trajectories packed into micro-batches, the vocabulary head, the
//! optimizer, the ranks that learn together.
//!
//! Nothing here knows where trajectories come from or which loss they get: `sft`,
//! `dpo` and `grpo` hold step and loss alone.

pub mod batch;
pub mod flops;
pub mod head;
mod learner;
pub mod optim;
mod passes;
mod ranks;
pub mod shares;
mod unit_traffic;

pub use batch::{LossNorm, MicroBatch, Trajectory, micro_batches, micro_batches_of};
pub use head::HeadOptions;
pub use learner::{Learner, LearnerOptions, Update};
pub use optim::{AdamW, Laid, learning_rate};
pub use passes::{WholeWeights, place_reference, share_reference};
pub use ranks::{PhaseKind, Ranks};
