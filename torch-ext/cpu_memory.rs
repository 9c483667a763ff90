//! What tensors on the CPU hold, counted: libtorch keeps counters for GPUs alone.
//!
//! Counting is asked for once in a process and stays on; tensors that were there before are not counted.

use std::ffi::c_int;

use crate::TorchError;
use crate::ffi;
use crate::ffi::check;

/// Bytes of tensors on the CPU that were made since counting began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMemory {
    /// Held by live tensors now.
    pub held: i64,
    /// The most ever held by live tensors since the last reset.
    pub peak: i64,
}

/// Begins to count.
///
/// # Errors
/// Whatever libtorch raises.
pub fn count_cpu_memory() -> Result<(), TorchError> {
    // SAFETY: nothing crosses.
    check("count_cpu_memory", unsafe { ffi::svgrl_count_cpu_memory() })
}

/// The counts so far; with `reset` the peak begins anew from what is held now.
///
/// # Errors
/// Whatever libtorch raises.
pub fn cpu_memory(reset: bool) -> Result<CpuMemory, TorchError> {
    let mut bytes = [0i64; 2];
    // SAFETY: room for two counters, as the shim writes.
    let status = unsafe { ffi::svgrl_cpu_memory(c_int::from(reset), bytes.as_mut_ptr()) };
    check("cpu_memory", status)?;
    let [held, peak] = bytes;
    Ok(CpuMemory { held, peak })
}
