//! What only a CUDA libtorch has: NCCL groups, and a GPU's name.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use crate::ffi::check;
use crate::ffi_c10d::{self as ffi, GroupPtr};
use crate::store::millis;
use crate::{GroupOptions, Store, TorchError};

/// Whether this build can make NCCL groups.
pub(crate) const AVAILABLE: bool = true;

pub(crate) fn connect(
    store: &Store,
    options: &GroupOptions,
    device: usize,
) -> Result<GroupPtr, TorchError> {
    let mut raw: GroupPtr = ptr::null_mut();
    // SAFETY: a live store, and room for one handle.
    let status = unsafe {
        ffi::svgrl_group_nccl(
            store.raw(),
            options.rank as c_int,
            options.size as c_int,
            millis(options.timeout),
            device as c_int,
            &mut raw,
        )
    };
    check("ProcessGroup::connect", status)?;
    Ok(raw)
}

pub(crate) fn device_name(device: usize) -> Result<String, TorchError> {
    let mut name: [c_char; 256] = [0; 256];
    // SAFETY: the shim writes at most that many bytes, a NUL among them.
    let status =
        unsafe { crate::ffi::svgrl_device_name(device as c_int, name.as_mut_ptr(), name.len()) };
    check("device_name", status)?;
    // SAFETY: ends with a NUL, as above.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Ok(name.to_string_lossy().into_owned())
}
