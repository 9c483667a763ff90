//! A thread's own stream on a GPU: its kernels run beside those of other threads, not behind them.

use std::ffi::c_int;

use tch::Device;

use crate::TorchError;
use crate::ffi::{self, check};

/// Gives the calling thread a stream of its own on `device`, which starts after all that was asked of that GPU before;
/// nothing on a CPU. What the thread hands to others must be in host memory: reading it there waits for the stream.
///
/// # Errors
/// Whatever libtorch raises.
pub fn use_own_stream(device: Device) -> Result<(), TorchError> {
    match device {
        // SAFETY: a plain integer crosses.
        Device::Cuda(index) => check("use_own_stream", unsafe {
            ffi::svgrl_own_stream(index as c_int)
        }),
        _ => Ok(()),
    }
}
