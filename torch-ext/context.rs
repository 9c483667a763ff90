//! libtorch's process-wide switches, and what it is.

use std::ffi::{CStr, c_int};

use tch::Device;

use crate::ffi::check;
use crate::{TorchError, cuda, ffi};

/// The version of the libtorch that this program was compiled against, as `2.11.0`.
pub fn version() -> String {
    // SAFETY: a constant string of the shim.
    let version = unsafe { CStr::from_ptr(ffi::svgrl_version()) };
    version.to_string_lossy().into_owned()
}

/// The maker's name of a GPU; `None` for a CPU.
///
/// # Errors
/// No such GPU, or a build without CUDA.
pub fn device_name(device: Device) -> Result<Option<String>, TorchError> {
    match device {
        Device::Cuda(index) => cuda::device_name(index).map(Some),
        _ => Ok(None),
    }
}

/// Bytes of a GPU's memory; `None` for a CPU.
///
/// # Errors
/// A build without CUDA; a GPU that is not there.
pub fn device_bytes(device: Device) -> Result<Option<i64>, TorchError> {
    match device {
        Device::Cuda(index) => cuda::device_bytes(index).map(Some),
        _ => Ok(None),
    }
}

/// Asks for kernels whose results repeat bit for bit; an operator that has none
/// warns once, and may differ from run to run. To be called before the GPU is used.
///
/// # Errors
/// Whatever libtorch raises.
pub fn set_deterministic(on: bool) -> Result<(), TorchError> {
    // SAFETY: a plain integer crosses.
    check("set_deterministic", unsafe {
        ffi::svgrl_set_deterministic(c_int::from(on))
    })
}

/// Makes a GPU compute as narrowly as it was told and no narrower: convolutions of float32 in
/// float32 (libtorch's default is TF32, with ten bits of fraction), and sums of float16 products in
/// float32. A CPU does both anyway.
///
/// # Errors
/// Whatever libtorch raises.
pub fn disable_reduced_precision() -> Result<(), TorchError> {
    // SAFETY: nothing crosses.
    check("disable_reduced_precision", unsafe {
        ffi::svgrl_disable_reduced_precision()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_it_is() {
        assert!(version().starts_with(char::is_numeric), "{}", version());
        assert_eq!(device_name(Device::Cpu).unwrap(), None);
    }
}
