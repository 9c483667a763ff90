//! Flash attention over packed sequences of different lengths: one call for all, nothing padded, nothing gathered.
//!
//! libtorch's `_flash_attention_forward`, which tch does not bind. It has a gradient, unless `key_lengths` are given.
//! It is there for GPUs from Ampere on, in float16 and bfloat16, for heads of at most 256 numbers, a multiple of 8;
//! [`flash_available`] asks by doing.

use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::ffi;
use crate::{TorchError, catch_torch};

/// Sequences in packed rows, and the most that one of them has.
#[derive(Debug, Clone, Copy)]
pub struct PackedRows<'a> {
    /// Where each sequence starts, and the end of the last, int32 `[n + 1]`.
    pub starts: &'a Tensor,
    /// The most rows of a sequence.
    pub longest: i64,
}

/// Who looks at whom.
#[derive(Debug, Clone, Copy)]
pub struct FlashArgs<'a> {
    /// Queries `[Tq, Hq, D]`.
    pub q: &'a Tensor,
    /// Keys `[Tk, Hkv, D]`, any strides but the last; `Hq` is a multiple of `Hkv`.
    pub k: &'a Tensor,
    /// Values, as the keys.
    pub v: &'a Tensor,
    /// The sequences among the queries.
    pub queries: PackedRows<'a>,
    /// The same among the keys. With `key_lengths` the starts may come in any order.
    pub keys: PackedRows<'a>,
    /// How many keys each sequence has, int32 `[n]`; without, all as far as the next start.
    pub key_lengths: Option<&'a Tensor>,
    /// Whether the last query sees all keys, the one before it all but the last, and so on.
    pub causal: bool,
}

/// Softmax attention scaled by `1 / sqrt(D)`: the mixed values `[Tq, Hq, D]`, and the logarithms of the sums of the
/// exponentials of the scores, float32 `[Hq, Tq]`, which has no gradient.
///
/// # Errors
/// A device, kind or shape for which there is no kernel.
pub fn flash_attention(args: FlashArgs) -> Result<(Tensor, Tensor), TorchError> {
    let inputs = [
        args.q.as_ptr(),
        args.k.as_ptr(),
        args.v.as_ptr(),
        args.queries.starts.as_ptr(),
        args.keys.starts.as_ptr(),
        args.key_lengths
            .map_or(std::ptr::null(), |lengths| lengths.as_ptr()),
    ];
    let bounds = [args.queries.longest, args.keys.longest];
    // SAFETY: live tensors, null only for the last; two bounds; room for two results.
    let [mixed, lse] = ffi::receive("flash_attention", |out| unsafe {
        ffi::svgrl_flash_attention(
            inputs.as_ptr(),
            bounds.as_ptr(),
            c_int::from(args.causal),
            out,
        )
    })?;
    Ok((mixed, lse))
}

/// Whether `device` has a kernel for heads of `dim` numbers of `kind`: it is tried with one row, once.
pub fn flash_available(device: Device, kind: Kind, dim: i64) -> bool {
    type Answers = Vec<((Device, Kind, i64), bool)>;
    static KNOWN: Mutex<Answers> = Mutex::new(Vec::new());
    if !device.is_cuda() {
        return false;
    }
    let asked = (device, kind, dim);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, answer)) = known.iter().find(|(key, _)| *key == asked) {
        return *answer;
    }
    let answer = tried(device, kind, dim);
    known.push((asked, answer));
    answer
}

fn tried(device: Device, kind: Kind, dim: i64) -> bool {
    let tried = catch_torch(|| {
        let row = Tensor::zeros([1, 1, dim], (kind, device));
        let starts = Tensor::from_slice(&[0i32, 1]).to_device(device);
        let one = PackedRows {
            starts: &starts,
            longest: 1,
        };
        let done = flash_attention(FlashArgs {
            q: &row,
            k: &row,
            v: &row,
            queries: one,
            keys: one,
            key_lengths: None,
            causal: true,
        });
        done.is_ok()
    });
    tried == Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_no_such_kernel_and_says_so() {
        assert!(!flash_available(Device::Cpu, Kind::Float, 8));
        let row = Tensor::zeros([1, 1, 8], (Kind::Float, Device::Cpu));
        let starts = Tensor::from_slice(&[0i32, 1]);
        let one = PackedRows {
            starts: &starts,
            longest: 1,
        };
        let told = flash_attention(FlashArgs {
            q: &row,
            k: &row,
            v: &row,
            queries: one,
            keys: one,
            key_lengths: None,
            causal: false,
        });
        assert!(told.unwrap_err().to_string().contains("flash"));
    }
}
