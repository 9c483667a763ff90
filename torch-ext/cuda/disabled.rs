//! What needs CUDA, in a build without it: a sentence instead.

use crate::ffi_c10d::GroupPtr;
use crate::{GroupOptions, Store, TorchError};

/// Whether this build can make NCCL groups.
pub(crate) const AVAILABLE: bool = false;

/// A captured graph: there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GraphPtr {}

/// A capture: there is none.
#[derive(Debug)]
pub(crate) enum GraphCapture {}

fn without<T>(call: &'static str) -> Result<T, TorchError> {
    Err(TorchError::argument(
        call,
        "this build has no CUDA; set libtorch up for it (`make setup CUDA=1`) and build again",
    ))
}

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
    without("device_name")
}

pub(crate) fn graph_begin(
    _device: usize,
    _beside: Option<GraphPtr>,
) -> Result<GraphCapture, TorchError> {
    without("CudaGraph::capture")
}

pub(crate) fn graph_end(begun: GraphCapture) -> Result<(GraphPtr, u64), TorchError> {
    match begun {}
}

pub(crate) fn graph_replay(graph: GraphPtr) -> Result<(), TorchError> {
    match graph {}
}

pub(crate) fn graph_free(graph: GraphPtr) {
    match graph {}
}

pub(crate) fn device_bytes(_device: usize) -> Result<i64, TorchError> {
    Err(TorchError::argument(
        "device_bytes",
        "this build has no CUDA; set libtorch up for it (`make setup CUDA=1`) and build again",
    ))
}
