//! What libtorch has and tch does not bind, behind a safe Rust interface.
//!
//! The only C++ (`shim/`), the only build script and the only `unsafe` of the
//! project, for which reason files are mapped here too. Knows tensors and
//! processes, never models, losses or checkpoints. Every C++ exception arrives
//! as a [`TorchError`].

mod adamw;
mod allocator;
mod catch;
#[cfg(test)]
mod closeness;
mod context;
mod cpu_memory;
#[cfg_attr(svgrl_cuda, path = "cuda/enabled.rs")]
#[cfg_attr(not(svgrl_cuda), path = "cuda/disabled.rs")]
mod cuda;
mod decode;
mod error;
mod ffi;
mod ffi_c10d;
mod flash;
mod fused;
mod grad;
mod graph;
mod group;
mod heartbeat;
mod learn;
mod mapped;
mod meeting;
mod memory;
mod pending;
mod route;
mod seeded;
mod storage;
mod store;
mod stream;

pub use adamw::{AdamwArgs, AdamwScalars, foreach_norm, fused_adamw_, global_norm};
pub use allocator::{SentenceAllocator, prepare_for_full_memory};
pub use catch::{catch_torch, catches_panics};
pub use context::{
    device_bytes, device_name, disable_reduced_precision, set_deterministic, version,
};
pub use cpu_memory::{CpuMemory, count_cpu_memory, cpu_memory};
pub use decode::{CachedRows, decode_attention};
pub use error::TorchError;
pub use flash::{FlashArgs, PackedRows, flash_attention, flash_available};
pub use fused::{
    CachePlaces, HeadNorms, QkvPost, Rotation, add_rms_norm, fused_qkv_post, rms_norm, silu_mul,
};
pub use grad::{backward, set_grad};
pub use graph::CudaGraph;
pub use group::{Backend, C10dGroup, GroupOptions, ProcessGroup};
pub use learn::{LearnHeads, learn_rms_norm, learn_silu_mul, learn_turn_heads};
pub use mapped::MappedFile;
pub use meeting::{Compare, Likeness, Meeting, Met};
pub use memory::{MemoryStats, memory_stats};
pub use pending::Pending;
pub use route::route;
pub use seeded::{Seeded, seeded};
pub use storage::LooseTensor;
pub use store::Store;
pub use stream::use_own_stream;
