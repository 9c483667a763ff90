//! The shim's distributed functions as Rust sees them.

use std::ffi::{c_char, c_int};

use crate::ffi::In;

/// A reference to a `c10d::Store`, on the C++ heap.
#[repr(C)]
pub(crate) struct RawStore {
    _private: [u8; 0],
}

/// A reference to a `c10d::Backend`, on the C++ heap.
#[repr(C)]
pub(crate) struct RawGroup {
    _private: [u8; 0],
}

/// A reference to a `c10d::Work`, on the C++ heap.
#[repr(C)]
pub(crate) struct RawWork {
    _private: [u8; 0],
}

pub(crate) type StorePtr = *mut RawStore;
pub(crate) type GroupPtr = *mut RawGroup;
pub(crate) type WorkPtr = *mut RawWork;

unsafe extern "C" {
    pub(crate) fn svgrl_prefer_interface(address: *const c_char) -> c_int;
    pub(crate) fn svgrl_store_tcp(
        host: *const c_char,
        port: u16,
        is_server: c_int,
        timeout_ms: i64,
        out: *mut StorePtr,
    ) -> c_int;
    pub(crate) fn svgrl_store_port(store: StorePtr, port: *mut u16) -> c_int;
    pub(crate) fn svgrl_store_prefix(
        store: StorePtr,
        prefix: *const c_char,
        out: *mut StorePtr,
    ) -> c_int;
    pub(crate) fn svgrl_store_reconnect(store: StorePtr, out: *mut StorePtr) -> c_int;
    pub(crate) fn svgrl_store_free(store: StorePtr);
    pub(crate) fn svgrl_store_set(
        store: StorePtr,
        key: *const c_char,
        data: *const u8,
        size: usize,
    ) -> c_int;
    pub(crate) fn svgrl_store_get(
        store: StorePtr,
        key: *const c_char,
        data: *mut *const u8,
        size: *mut usize,
    ) -> c_int;
    pub(crate) fn svgrl_store_check(
        store: StorePtr,
        key: *const c_char,
        present: *mut c_int,
    ) -> c_int;
    pub(crate) fn svgrl_store_add(
        store: StorePtr,
        key: *const c_char,
        amount: i64,
        sum: *mut i64,
    ) -> c_int;

    pub(crate) fn svgrl_group_gloo(
        store: StorePtr,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        host: *const c_char,
        out: *mut GroupPtr,
    ) -> c_int;
    #[cfg(svgrl_cuda)]
    pub(crate) fn svgrl_group_nccl(
        store: StorePtr,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        device: c_int,
        out: *mut GroupPtr,
    ) -> c_int;
    pub(crate) fn svgrl_group_set_timeout(group: GroupPtr, timeout_ms: i64) -> c_int;
    pub(crate) fn svgrl_group_free(group: GroupPtr);
    pub(crate) fn svgrl_group_all_reduce(group: GroupPtr, tensor: In) -> c_int;
    pub(crate) fn svgrl_group_broadcast(group: GroupPtr, tensor: In, root: c_int) -> c_int;
    pub(crate) fn svgrl_group_reduce_scatter(group: GroupPtr, output: In, input: In) -> c_int;
    pub(crate) fn svgrl_group_all_gather(group: GroupPtr, output: In, input: In) -> c_int;
    pub(crate) fn svgrl_group_reduce_scatter_start(
        group: GroupPtr,
        output: In,
        input: In,
        out: *mut WorkPtr,
    ) -> c_int;
    pub(crate) fn svgrl_group_all_gather_start(
        group: GroupPtr,
        output: In,
        input: In,
        out: *mut WorkPtr,
    ) -> c_int;
    pub(crate) fn svgrl_work_wait(work: WorkPtr) -> c_int;
    pub(crate) fn svgrl_work_free(work: WorkPtr);
    pub(crate) fn svgrl_group_gather(group: GroupPtr, output: In, input: In, root: c_int) -> c_int;
    pub(crate) fn svgrl_group_barrier(group: GroupPtr, cuda_device: c_int) -> c_int;
}
