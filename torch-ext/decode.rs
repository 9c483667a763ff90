//! Attention of one new token per row over a shared prompt and what it has generated, on the CPU.
//!
//! Reads each row's exact lengths, so that nothing is padded or masked. Float32
//! and forward only: it serves sampling, where one query per row makes batched
//! matrix products slow. No graph is recorded.

use tch::Tensor;

use crate::TorchError;
use crate::ffi;

/// What the rows have in a cache; several may have the same range.
#[derive(Debug, Clone, Copy)]
pub struct CachedRows<'a> {
    /// Keys `[Hkv, C, D]`.
    pub k: &'a Tensor,
    /// Values `[Hkv, C, D]`.
    pub v: &'a Tensor,
    /// Where each row's range starts, int64 `[n]`.
    pub starts: &'a Tensor,
    /// How many keys it has, int64 `[n]`; the range ends within the cache.
    pub lengths: &'a Tensor,
}

/// Softmax attention of `q [n, Hq, D]` over the keys of each row's prompt and
/// then of its own tokens, scaled by `1 / sqrt(D)`; returns `[n, Hq, D]`.
///
/// `Hq` is a multiple of `Hkv`: query head `h` reads key-value head
/// `h / (Hq / Hkv)`. A prompt may be empty, a row's own tokens may not. All
/// contiguous, on the CPU.
///
/// # Errors
/// When a shape, type, start or length is out of these bounds.
pub fn decode_attention(
    q: &Tensor,
    prompts: CachedRows,
    own: CachedRows,
) -> Result<Tensor, TorchError> {
    let parts = |rows: CachedRows| {
        [
            rows.k.as_ptr(),
            rows.v.as_ptr(),
            rows.starts.as_ptr(),
            rows.lengths.as_ptr(),
        ]
    };
    let ([a, b, c, d], [e, f, g, h]) = (parts(prompts), parts(own));
    let inputs = [q.as_ptr(), a, b, c, d, e, f, g, h];
    // SAFETY: nine live tensors for the length of the call, room for one result.
    let [out] = ffi::receive("decode_attention", |out| unsafe {
        ffi::svgrl_decode_attention(inputs.as_ptr(), out)
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closeness::{FLOAT32, relative_gap};
    use crate::seeded;
    use tch::{Device, Kind};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// A cache and which part of it each row has.
    struct CachePart {
        k: Tensor,
        v: Tensor,
        starts: Vec<i64>,
        lengths: Vec<i64>,
    }

    impl CachePart {
        fn call<T>(&self, work: impl FnOnce(CachedRows) -> T) -> T {
            let (starts, lengths) = (
                Tensor::from_slice(&self.starts),
                Tensor::from_slice(&self.lengths),
            );
            work(CachedRows {
                k: &self.k,
                v: &self.v,
                starts: &starts,
                lengths: &lengths,
            })
        }
    }

    struct Case {
        q: Tensor,
        prompts: CachePart,
        own: CachePart,
    }

    const CAPACITY: i64 = 70;

    fn case(heads: (i64, i64), dim: i64, lengths: &[(i64, i64)]) -> Case {
        let _turn = seeded(7);
        let rows = lengths.len() as i64;
        let part = |places: Vec<i64>, lengths: Vec<i64>| CachePart {
            k: Tensor::randn([heads.1, (rows + 2) * CAPACITY, dim], F32),
            v: Tensor::randn([heads.1, (rows + 2) * CAPACITY, dim], F32),
            starts: places.iter().map(|place| place * CAPACITY).collect(),
            lengths,
        };
        Case {
            q: Tensor::randn([rows, heads.0, dim], F32) * 2.0,
            // Two rows a prompt.
            prompts: part(
                (0..rows).map(|row| row / 2).collect(),
                lengths.iter().map(|length| length.0).collect(),
            ),
            own: part(
                (0..rows).map(|row| rows + 1 - row).collect(),
                lengths.iter().map(|length| length.1).collect(),
            ),
        }
    }

    fn run(c: &Case) -> Result<Tensor, TorchError> {
        c.prompts
            .call(|prompts| c.own.call(|own| decode_attention(&c.q, prompts, own)))
    }

    /// Row by row in float64 with plain operators.
    fn reference(c: &Case) -> Tensor {
        let (q_heads, heads) = (c.q.size()[1], c.own.k.size()[0]);
        let outs: Vec<Tensor> = (0..c.q.size()[0])
            .map(|row| {
                let rows = |cache: &Tensor, part: &CachePart| {
                    let at = row as usize;
                    cache
                        .narrow(1, part.starts[at], part.lengths[at])
                        .repeat_interleave_self_int(q_heads / heads, 0, None)
                        .to_kind(Kind::Double)
                };
                let both = |prompt: &Tensor, own: &Tensor| {
                    Tensor::cat(&[rows(prompt, &c.prompts), rows(own, &c.own)], 1)
                };
                let keys = both(&c.prompts.k, &c.own.k);
                let q = c.q.get(row).unsqueeze(1).to_kind(Kind::Double);
                let scale = (c.q.size()[2] as f64).sqrt();
                let weights = (q.matmul(&keys.transpose(1, 2)) / scale).softmax(-1, Kind::Double);
                weights.matmul(&both(&c.prompts.v, &c.own.v)).squeeze_dim(1)
            })
            .collect();
        Tensor::stack(&outs, 0)
    }

    #[test]
    fn exact_lengths_and_grouped_heads_match_plain_operators_on_every_instruction_set() {
        let each = [0, 1, 2, 3, 4, 5, 17, 64, 70];
        let mixed: Vec<(i64, i64)> = each
            .iter()
            .flat_map(|prompt| each[1..].iter().map(move |own| (*prompt, *own)))
            .collect();
        let cases = [
            ((8, 4), 32, mixed),
            ((6, 2), 64, vec![(70, 3), (16, 70), (15, 1)]),
            ((4, 4), 128, vec![(33, 34); 3]),
            ((3, 1), 20, vec![(9, 1), (70, 70), (0, 4), (5, 6), (6, 5)]),
            ((8, 4), 32, vec![(70, 70); 40]),
        ];
        for level in 0..3 {
            // SAFETY: picks one of the tables that this machine can run.
            unsafe { ffi::svgrl_limit_isa(level) };
            for (heads, dim, lengths) in &cases {
                let c = case(*heads, *dim, lengths);
                let gap = relative_gap(&run(&c).unwrap(), &reference(&c));
                assert!(gap < FLOAT32, "level {level}, head size {dim}: {gap}");
            }
        }
    }

    #[test]
    fn a_range_beyond_a_cache_is_refused() {
        // The cache holds three times 70.
        let call = |prompt: (i64, i64), own: (i64, i64)| {
            let mut c = case((2, 1), 32, &[(3, 3)]);
            (c.prompts.starts, c.prompts.lengths) = (vec![prompt.0], vec![prompt.1]);
            (c.own.starts, c.own.lengths) = (vec![own.0], vec![own.1]);
            run(&c)
        };
        assert!(call((140, 70), (0, 210)).is_ok());
        let told = call((0, 3), (0, 211)).unwrap_err().to_string();
        assert!(told.contains("211"), "{told}");
        let told = call((1, 210), (0, 3)).unwrap_err().to_string();
        assert!(told.contains("prompts") && told.contains("210"), "{told}");
        assert!(call((0, 3), (0, 0)).is_err());
        assert!(call((0, 3), (208, 5)).is_err());
        assert!(call((-1, 3), (0, 5)).is_err());
    }
}
