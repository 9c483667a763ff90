//! What libtorch has and tch does not bind, behind a safe Rust interface.
//!
//! The only C++ (`shim/`), the only build script and the only `unsafe` of the
//! project. Knows tensors and processes, never models, losses or checkpoints.
//! Every C++ exception arrives as a [`TorchError`].

mod adamw;
mod context;
mod error;
mod ffi;
mod grad;
mod memory;

pub use adamw::{AdamwArgs, AdamwScalars, foreach_norm, fused_adamw_, global_norm};
pub use context::{allow_tf32, set_deterministic};
pub use error::TorchError;
pub use grad::{backward, set_grad};
pub use memory::{MemoryStats, empty_cache, memory_stats, reset_peak_memory};
