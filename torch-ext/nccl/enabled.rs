//! NCCL groups in a build against a CUDA libtorch.

use std::ffi::c_int;
use std::ptr;

use crate::error::check;
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
