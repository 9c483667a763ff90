//! libtorch's process-wide switches.

use std::ffi::c_int;

use crate::TorchError;
use crate::error::check;
use crate::ffi;

/// Asks for kernels whose results repeat bit for bit; an operator that has none
/// then raises instead of differing from run to run.
///
/// # Errors
/// Whatever libtorch raises.
pub fn set_deterministic(on: bool) -> Result<(), TorchError> {
    // SAFETY: a plain integer crosses.
    check("set_deterministic", unsafe {
        ffi::svgrl_set_deterministic(c_int::from(on))
    })
}

/// Allows float32 matrix products on the GPU to round their inputs to TF32
/// (10 bits of mantissa), for speed. No effect on a CPU.
///
/// # Errors
/// Whatever libtorch raises.
pub fn allow_tf32(on: bool) -> Result<(), TorchError> {
    // SAFETY: a plain integer crosses.
    check("allow_tf32", unsafe {
        ffi::svgrl_allow_tf32(c_int::from(on))
    })
}
