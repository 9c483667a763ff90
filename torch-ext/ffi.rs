//! The shim's functions as Rust sees them, tensors crossing the border, and a C++ exception's
//! message on its way back.

use std::ffi::{CStr, c_char, c_double, c_float, c_int};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::TorchError;

pub(crate) type In = *const C_tensor;
pub(crate) type Out = *mut *mut C_tensor;

unsafe extern "C" {
    pub(crate) fn svgrl_end_in_words(words: *const c_char);
    pub(crate) fn svgrl_last_error() -> *const c_char;

    pub(crate) fn svgrl_set_grad(param: In, grad: In) -> c_int;
    pub(crate) fn svgrl_backward(output: In, output_grad: In, keep_graph: c_int) -> c_int;

    pub(crate) fn svgrl_storage_release(tensor: In) -> c_int;
    pub(crate) fn svgrl_storage_allocate(tensor: In) -> c_int;

    pub(crate) fn svgrl_fused_adamw(
        params: *const In,
        grads: *const In,
        exp_avg: *const In,
        exp_avg_sq: *const In,
        steps: *const In,
        count: usize,
        scalars: *const c_double,
    ) -> c_int;
    pub(crate) fn svgrl_foreach_norm(tensors: *const In, count: usize, out: Out) -> c_int;

    pub(crate) fn svgrl_version() -> *const c_char;
    #[cfg(svgrl_cuda)]
    pub(crate) fn svgrl_device_name(device: c_int, out: *mut c_char, size: usize) -> c_int;
    #[cfg(svgrl_cuda)]
    pub(crate) fn svgrl_device_bytes(device: c_int, out: *mut i64) -> c_int;
    pub(crate) fn svgrl_set_deterministic(on: c_int) -> c_int;
    pub(crate) fn svgrl_disable_reduced_precision() -> c_int;
    pub(crate) fn svgrl_count_cpu_memory() -> c_int;
    pub(crate) fn svgrl_cpu_memory(reset: c_int, out: *mut i64) -> c_int;
    pub(crate) fn svgrl_memory_stats(device: c_int, out: *mut i64, known: *mut c_int) -> c_int;

    pub(crate) fn svgrl_own_stream(device: c_int) -> c_int;
    pub(crate) fn svgrl_flash_attention(
        inputs: *const In,
        bounds: *const i64,
        causal: c_int,
        out: Out,
    ) -> c_int;

    #[cfg(test)]
    pub(crate) fn svgrl_limit_isa(level: c_int) -> c_int;
    pub(crate) fn svgrl_decode_attention(inputs: *const In, out: Out) -> c_int;
    pub(crate) fn svgrl_fused_qkv_post(inputs: *const In, eps: c_float, out: Out) -> c_int;
    pub(crate) fn svgrl_learn_rms_norm(x: In, weight: In, eps: c_double, out: Out) -> c_int;
    pub(crate) fn svgrl_learn_silu_mul(gate_up: In, out: Out) -> c_int;
    pub(crate) fn svgrl_learn_turn_heads(
        inputs: *const In,
        q_heads: i64,
        kv_heads: i64,
        eps: c_double,
        out: Out,
    ) -> c_int;
    pub(crate) fn svgrl_silu_mul(gate_up: In, out: Out) -> c_int;
    pub(crate) fn svgrl_rms_norm(x: In, weight: In, eps: c_float, out: Out) -> c_int;
    pub(crate) fn svgrl_add_rms_norm(
        x: In,
        residual: In,
        weight: In,
        eps: c_float,
        out: Out,
    ) -> c_int;
}

/// Turns the shim's status into a result; `call` names the function at fault.
pub(crate) fn check(call: &'static str, status: c_int) -> Result<(), TorchError> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the shim returns a NUL-terminated thread-local string that lives
    // until the next failing call on this thread; it is copied at once.
    let message = unsafe { CStr::from_ptr(svgrl_last_error()) };
    Err(TorchError::Libtorch {
        call,
        message: message.to_string_lossy().trim_end().to_owned(),
    })
}

/// Pointers to the tensors of a list, in order.
pub(crate) fn pointers(tensors: &[Tensor]) -> Vec<In> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// Calls `fill` with room for `N` new tensors and takes them over.
pub(crate) fn receive<const N: usize>(
    call: &'static str,
    fill: impl FnOnce(Out) -> c_int,
) -> Result<[Tensor; N], TorchError> {
    let mut raw = [std::ptr::null_mut::<C_tensor>(); N];
    check(call, fill(raw.as_mut_ptr()))?;
    // SAFETY: on status 0 the shim has filled every place with a fresh heap
    // tensor that nobody else owns.
    Ok(raw.map(|pointer| unsafe { Tensor::from_ptr(pointer) }))
}
