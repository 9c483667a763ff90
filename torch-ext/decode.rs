//! Attention of one new token per row over a cache of slots, on the CPU.
//!
//! Reads each row's exact length, so that nothing is padded or masked. Float32
//! and forward only: it serves sampling, where one query per row makes batched
//! matrix products slow. No graph is recorded.

use tch::Tensor;

use crate::TorchError;
use crate::ffi;

/// Softmax attention of `q [n, Hq, D]` over the first `lengths[i]` keys of slot
/// `slots[i]`, scaled by `1 / sqrt(D)`; returns `[n, Hq, D]`.
///
/// `k_cache` and `v_cache` are `[S, Hkv, Lmax, D]` with `Hq` a multiple of
/// `Hkv` (query head `h` reads key-value head `h / (Hq / Hkv)`), `slots` and
/// `lengths` int64 `[n]` with lengths in `1..=Lmax`. All contiguous, on the CPU.
///
/// # Errors
/// When a shape, type, slot or length is out of these bounds.
pub fn decode_attention(
    q: &Tensor,
    k_cache: &Tensor,
    v_cache: &Tensor,
    slots: &Tensor,
    lengths: &Tensor,
) -> Result<Tensor, TorchError> {
    // SAFETY: five live tensors for the length of the call, room for one result.
    let [out] = ffi::receive("decode_attention", |out| unsafe {
        ffi::svgrl_decode_attention(
            q.as_ptr(),
            k_cache.as_ptr(),
            v_cache.as_ptr(),
            slots.as_ptr(),
            lengths.as_ptr(),
            out,
        )
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    struct Case {
        q: Tensor,
        k: Tensor,
        v: Tensor,
        slots: Vec<i64>,
        lengths: Vec<i64>,
    }

    fn case(heads: (i64, i64), dim: i64, lengths: &[i64]) -> Case {
        tch::manual_seed(7);
        let rows = lengths.len() as i64;
        let capacity = 70;
        Case {
            q: Tensor::randn([rows, heads.0, dim], F32) * 2.0,
            k: Tensor::randn([rows + 2, heads.1, capacity, dim], F32),
            v: Tensor::randn([rows + 2, heads.1, capacity, dim], F32),
            slots: (0..rows).map(|i| rows + 1 - i).collect(),
            lengths: lengths.to_vec(),
        }
    }

    /// Row by row in float64 with plain operators.
    fn reference(c: &Case) -> Tensor {
        let (q_heads, heads) = (c.q.size()[1], c.k.size()[1]);
        let rows = c.lengths.iter().zip(&c.slots).enumerate();
        let outs: Vec<Tensor> = rows
            .map(|(i, (&length, &slot))| {
                let take = |cache: &Tensor| {
                    cache
                        .get(slot)
                        .narrow(1, 0, length)
                        .repeat_interleave_self_int(q_heads / heads, 0, None)
                        .to_kind(Kind::Double)
                };
                let q = c.q.get(i as i64).unsqueeze(1).to_kind(Kind::Double);
                let scale = (c.q.size()[2] as f64).sqrt();
                let weights =
                    (q.matmul(&take(&c.k).transpose(1, 2)) / scale).softmax(-1, Kind::Double);
                weights.matmul(&take(&c.v)).squeeze_dim(1)
            })
            .collect();
        Tensor::stack(&outs, 0)
    }

    #[test]
    fn exact_lengths_and_grouped_heads_match_plain_operators_on_every_instruction_set() {
        let cases = [
            ((8, 4), 32, vec![1, 2, 3, 4, 5, 17, 64, 70]),
            ((6, 2), 64, vec![70, 16, 15]),
            ((4, 4), 128, vec![33; 3]),
            ((3, 1), 20, vec![9, 70, 4, 5, 6]),
            ((8, 4), 32, vec![70; 40]),
        ];
        for level in 0..3 {
            // SAFETY: picks one of the tables that this machine can run.
            unsafe { ffi::svgrl_limit_isa(level) };
            for (heads, dim, lengths) in &cases {
                let c = case(*heads, *dim, lengths);
                let got = decode_attention(
                    &c.q,
                    &c.k,
                    &c.v,
                    &Tensor::from_slice(&c.slots),
                    &Tensor::from_slice(&c.lengths),
                )
                .unwrap();
                let gap = (reference(&c) - got).abs().max().double_value(&[]);
                // float32 rounding; values reach 4
                assert!(gap < 2e-6, "level {level}, head size {dim}: {gap}");
            }
        }
    }

    #[test]
    fn a_length_beyond_the_slots_is_refused() {
        let c = case((2, 1), 32, &[3]);
        let call = |slot: i64, length: i64| {
            decode_attention(
                &c.q,
                &c.k,
                &c.v,
                &Tensor::from_slice(&[slot]),
                &Tensor::from_slice(&[length]),
            )
        };
        assert!(call(0, 70).is_ok());
        assert!(call(0, 71).unwrap_err().to_string().contains("71"));
        assert!(call(0, 0).is_err());
        assert!(call(3, 5).is_err());
    }
}
