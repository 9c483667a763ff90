//! What only a CUDA libtorch has: NCCL groups, graphs, and a GPU's name.

use std::ffi::{CStr, c_char, c_int, c_void};
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

pub(crate) fn device_bytes(device: usize) -> Result<i64, TorchError> {
    let mut bytes = 0i64;
    // SAFETY: room for one number.
    let status = unsafe { crate::ffi::svgrl_device_bytes(device as c_int, &mut bytes) };
    check("device_bytes", status)?;
    Ok(bytes)
}

/// The shim's graph, on the heap.
pub(crate) type GraphPtr = *mut c_void;

/// A graph that is being captured on this thread.
#[derive(Debug)]
pub(crate) struct GraphCapture(GraphPtr);

unsafe extern "C" {
    fn svgrl_graph_begin(device: c_int, beside: GraphPtr, out: *mut GraphPtr) -> c_int;
    fn svgrl_graph_end(graph: GraphPtr, nodes: *mut u64) -> c_int;
    fn svgrl_graph_replay(graph: GraphPtr) -> c_int;
    fn svgrl_graph_free(graph: GraphPtr);
}

pub(crate) fn graph_begin(
    device: usize,
    beside: Option<GraphPtr>,
) -> Result<GraphCapture, TorchError> {
    let mut raw = ptr::null_mut();
    // SAFETY: null or a live graph, and room for one.
    let status =
        unsafe { svgrl_graph_begin(device as c_int, beside.unwrap_or(ptr::null_mut()), &mut raw) };
    check("CudaGraph::capture", status)?;
    Ok(GraphCapture(raw))
}

/// The graph, and how many kernels and copies it starts.
pub(crate) fn graph_end(begun: GraphCapture) -> Result<(GraphPtr, u64), TorchError> {
    let mut nodes = 0;
    // SAFETY: the graph that was begun on this thread; where it fails the shim has freed it.
    check("CudaGraph::capture", unsafe {
        svgrl_graph_end(begun.0, &mut nodes)
    })?;
    Ok((begun.0, nodes))
}

pub(crate) fn graph_replay(graph: GraphPtr) -> Result<(), TorchError> {
    // SAFETY: a live graph.
    check("CudaGraph::replay", unsafe { svgrl_graph_replay(graph) })
}

pub(crate) fn graph_free(graph: GraphPtr) {
    // SAFETY: a live graph, which nobody uses afterwards.
    unsafe { svgrl_graph_free(graph) }
}
