//! What needs CUDA, in a build without it: a sentence instead.

use crate::ffi_c10d::GroupPtr;
use crate::{GroupOptions, Store, TorchError};

/// Whether this build can make NCCL groups.
pub(crate) const AVAILABLE: bool = false;

pub(crate) fn connect(
    _store: &Store,
    _options: &GroupOptions,
    _device: usize,
) -> Result<GroupPtr, TorchError> {
    Err(TorchError::argument(
        "ProcessGroup::connect",
        "this build has no NCCL; set libtorch up for CUDA (`make setup CUDA=1`) and build again",
    ))
}

pub(crate) fn device_name(_device: usize) -> Result<String, TorchError> {
    Err(TorchError::argument(
        "device_name",
        "this build has no CUDA; set libtorch up for it (`make setup CUDA=1`) and build again",
    ))
}
