//! The CUDA caching allocator's counters; a CPU has none.

use std::ffi::c_int;

use tch::Device;

use crate::TorchError;
use crate::ffi;
use crate::ffi::check;

/// Bytes of one device, as the caching allocator counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    /// Held by live tensors now.
    pub allocated: u64,
    /// The most ever held by live tensors since the last reset.
    pub peak_allocated: u64,
    /// Taken from the device now, cached blocks included.
    pub reserved: u64,
    /// The most ever taken from the device since the last reset.
    pub peak_reserved: u64,
}

fn index(device: Device) -> Option<c_int> {
    match device {
        Device::Cuda(index) => c_int::try_from(index).ok(),
        _ => None,
    }
}

/// The counters of `device`; `None` for a CPU, and for a GPU not used yet.
/// Once a step is fine, once a kernel is not: the call takes the allocator's lock.
///
/// # Errors
/// Whatever libtorch raises, for instance for a device that does not exist.
pub fn memory_stats(device: Device) -> Result<Option<MemoryStats>, TorchError> {
    let Some(index) = index(device) else {
        return Ok(None);
    };
    let mut bytes = [0i64; 4];
    let mut known: c_int = 0;
    // SAFETY: room for four counters and one flag, as the shim writes.
    let status = unsafe { ffi::svgrl_memory_stats(index, bytes.as_mut_ptr(), &mut known) };
    check("memory_stats", status)?;
    let [allocated, peak_allocated, reserved, peak_reserved] = bytes.map(i64::unsigned_abs);
    Ok((known != 0).then_some(MemoryStats {
        allocated,
        peak_allocated,
        reserved,
        peak_reserved,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_no_allocator_counters() {
        assert_eq!(memory_stats(Device::Cpu).unwrap(), None);
    }
}
