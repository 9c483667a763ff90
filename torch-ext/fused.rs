//! The steps of a decoder layer between its matrix products, each in one pass.
//!
//! Float32, CPU, forward only: with few rows the cost of plain operators is
//! their number, not their arithmetic. Training uses tch's own operators.

use tch::Tensor;

use crate::TorchError;
use crate::ffi;

/// Weights `[D]` of the RMSNorm over each query and key head (Qwen3).
#[derive(Debug, Clone, Copy)]
pub struct HeadNorms<'a> {
    /// Weight for query heads.
    pub q: &'a Tensor,
    /// Weight for key heads.
    pub k: &'a Tensor,
    /// Added to the mean square.
    pub eps: f32,
}

/// Rotary position embedding of each row, `[n, D]` each, in the half-split
/// convention: element `i` is paired with `i + D / 2`.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Cosines.
    pub cos: &'a Tensor,
    /// Sines.
    pub sin: &'a Tensor,
}

/// Where each row's key and value go.
#[derive(Debug, Clone, Copy)]
pub struct CachePlaces<'a> {
    /// Keys `[Hkv, C, D]`, written in place.
    pub k: &'a Tensor,
    /// Values `[Hkv, C, D]`, written in place.
    pub v: &'a Tensor,
    /// Place of each row in the cache, int64 `[n]`, all different.
    pub places: &'a Tensor,
}

/// The way of new tokens from the fused projection to attention.
#[derive(Debug, Clone, Copy)]
pub struct QkvPost<'a> {
    /// `[n, (Hq + 2 Hkv) * D]`: query heads, key heads, value heads.
    pub qkv: &'a Tensor,
    /// Norms over heads, where the network has them.
    pub norms: Option<HeadNorms<'a>>,
    /// The rows' rotations.
    pub rotation: Rotation<'a>,
    /// The rows' places in the cache; it also gives `Hkv` and `D`.
    pub cache: CachePlaces<'a>,
}

/// Splits, normalises and rotates; writes keys and values into the cache and
/// returns the queries `[n, Hq, D]`.
///
/// # Errors
/// When a shape, type or place is out of bounds; nothing is written then.
pub fn fused_qkv_post(args: QkvPost) -> Result<Tensor, TorchError> {
    let none = std::ptr::null();
    let (q_weight, k_weight, eps) = match args.norms {
        Some(norms) => (norms.q.as_ptr(), norms.k.as_ptr(), norms.eps),
        None => (none, none, 0.0),
    };
    let inputs = [
        args.qkv.as_ptr(),
        q_weight,
        k_weight,
        args.rotation.cos.as_ptr(),
        args.rotation.sin.as_ptr(),
        args.cache.k.as_ptr(),
        args.cache.v.as_ptr(),
        args.cache.places.as_ptr(),
    ];
    // SAFETY: eight pointers as the shim reads them, null only for the norms.
    let [q] = ffi::receive("fused_qkv_post", |out| unsafe {
        ffi::svgrl_fused_qkv_post(inputs.as_ptr(), eps, out)
    })?;
    Ok(q)
}

/// `silu(gate) * up` of `gate_up [n, 2 * I]`, gate first; returns `[n, I]`.
///
/// # Errors
/// When `gate_up` is no contiguous float32 matrix of even width on the CPU.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor, TorchError> {
    // SAFETY: one live tensor for the length of the call.
    let [out] = ffi::receive("silu_mul", |out| unsafe {
        ffi::svgrl_silu_mul(gate_up.as_ptr(), out)
    })?;
    Ok(out)
}

/// RMSNorm of the rows of `x [n, H]` with `weight [H]`.
///
/// # Errors
/// When shapes or types do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor, TorchError> {
    // SAFETY: two live tensors for the length of the call.
    let [out] = ffi::receive("rms_norm", |out| unsafe {
        ffi::svgrl_rms_norm(x.as_ptr(), weight.as_ptr(), eps, out)
    })?;
    Ok(out)
}

/// Adds `x` to the residual stream and normalises: returns the norm of
/// `x + residual`, and `x + residual` itself, both `[n, H]`.
///
/// # Errors
/// When shapes or types do not fit.
pub fn add_rms_norm(
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(Tensor, Tensor), TorchError> {
    // SAFETY: three live tensors for the length of the call, two results.
    let [normed, sum] = ffi::receive("add_rms_norm", |out| unsafe {
        ffi::svgrl_add_rms_norm(x.as_ptr(), residual.as_ptr(), weight.as_ptr(), eps, out)
    })?;
    Ok((normed, sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closeness::{FLOAT32, relative_gap};
    use crate::seeded;
    use tch::{Device, Kind};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
    const EPS: f32 = 1e-6;

    fn plain_norm(x: &Tensor, weight: &Tensor) -> Tensor {
        let mean = x.square().mean_dim([-1i64].as_slice(), true, Kind::Float);
        x * (mean + f64::from(EPS)).rsqrt() * weight
    }

    fn rotate(x: &Tensor, r: Rotation) -> Tensor {
        let halves = x.chunk(2, -1);
        let turned = Tensor::cat(&[halves[1].neg(), halves[0].shallow_clone()], -1);
        x * r.cos.unsqueeze(1) + turned * r.sin.unsqueeze(1)
    }

    #[test]
    fn silu_mul_matches_plain_operators_from_minus_to_plus_hundred() {
        for width in [1i64, 15, 768] {
            let _turn = seeded(1);
            let x = Tensor::randn([9, 2 * width], F32) * 3.0;
            let halves = x.chunk(2, -1);
            let plain = halves[0].silu() * &halves[1];
            let gap = relative_gap(&silu_mul(&x).unwrap(), &plain);
            assert!(gap < FLOAT32, "width {width}: {gap}");
        }
        let ends = Tensor::from_slice(&[-100.0f32, 100.0, 1.0, 1.0]).view([1, 4]);
        let out = Vec::<f32>::try_from(silu_mul(&ends).unwrap().view([2])).unwrap();
        assert!(out[0].abs() < 1e-30 && out[1] == 100.0, "{out:?}");
    }

    #[test]
    fn norms_match_plain_operators_with_and_without_a_residual() {
        let _turn = seeded(2);
        for width in [7i64, 256] {
            let x = Tensor::randn([5, width], F32);
            let rest = Tensor::randn([5, width], F32);
            let weight = Tensor::rand([width], F32);
            let normed = rms_norm(&x, &weight, EPS).unwrap();
            assert!(relative_gap(&normed, &plain_norm(&x, &weight)) < FLOAT32);
            let (normed, sum) = add_rms_norm(&x, &rest, &weight, EPS).unwrap();
            assert_eq!(relative_gap(&sum, &(&x + &rest)), 0.0);
            assert!(relative_gap(&normed, &plain_norm(&sum, &weight)) < FLOAT32);
        }
    }

    #[test]
    fn qkv_lands_normed_and_rotated_in_its_places_and_nowhere_else() {
        let _turn = seeded(3);
        let (rows, q_heads, heads, dim, capacity) = (5i64, 6i64, 2i64, 32i64, 72i64);
        let qkv = Tensor::randn([rows, (q_heads + 2 * heads) * dim], F32);
        let (wq, wk) = (Tensor::rand([dim], F32), Tensor::rand([dim], F32));
        let angle = Tensor::rand([rows, dim], F32) * 6.0;
        let (cos, sin) = (angle.cos(), angle.sin());
        let rotation = Rotation {
            cos: &cos,
            sin: &sin,
        };
        let places = Tensor::from_slice(&[43i64, 0, 37, 71, 20]);
        let parts = qkv.view([rows, -1, dim]);
        let part = |from: i64, count: i64| parts.narrow(1, from, count);
        for norms in [
            None,
            Some(HeadNorms {
                q: &wq,
                k: &wk,
                eps: EPS,
            }),
        ] {
            let k = Tensor::full([heads, capacity, dim], 9.0, F32);
            let v = Tensor::full([heads, capacity, dim], 9.0, F32);
            let q = fused_qkv_post(QkvPost {
                qkv: &qkv,
                norms,
                rotation,
                cache: CachePlaces {
                    k: &k,
                    v: &v,
                    places: &places,
                },
            })
            .unwrap();
            let norm = |x: Tensor, w: &Tensor| match norms {
                Some(_) => plain_norm(&x, w),
                None => x,
            };
            let want_q = rotate(&norm(part(0, q_heads), &wq), rotation);
            let want_k = rotate(&norm(part(q_heads, heads), &wk), rotation);
            assert!(relative_gap(&q, &want_q) < FLOAT32);
            let kept = |cache: &Tensor| cache.index_select(1, &places).transpose(0, 1);
            assert!(relative_gap(&kept(&k), &want_k) < FLOAT32);
            assert_eq!(relative_gap(&kept(&v), &part(q_heads + heads, heads)), 0.0);
            let touched = v.ne(9.0).any_dim(-1, false).any_dim(0, false);
            assert_eq!(touched.sum(Kind::Int64).int64_value(&[]), rows);
        }
    }

    #[test]
    fn a_place_beyond_the_cache_is_refused_before_anything_is_written() {
        let cache = Tensor::zeros([1, 4, 2], F32);
        let one = Tensor::ones([1, 2], F32);
        let refused = fused_qkv_post(QkvPost {
            qkv: &Tensor::ones([1, 6], F32),
            norms: None,
            rotation: Rotation {
                cos: &one,
                sin: &one,
            },
            cache: CachePlaces {
                k: &cache,
                v: &cache,
                places: &Tensor::from_slice(&[4i64]),
            },
        });
        assert!(refused.unwrap_err().to_string().contains("places"));
        assert_eq!(cache.sum(Kind::Float).double_value(&[]), 0.0);
    }
}
