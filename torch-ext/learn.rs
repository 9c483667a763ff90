//! The steps of a decoder layer between its matrix products with their gradients, each in one pass there and one back.
//!
//! Float32 on the CPU: plain operators take several passes over memory for each, and as many starts of threads.

use tch::Tensor;

use crate::TorchError;
use crate::ffi;
use crate::fused::{HeadNorms, Rotation};

/// RMSNorm of the rows of `x [.., H]` with `weight [H]`, with a graph.
///
/// # Errors
/// When shapes or types do not fit.
pub fn learn_rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TorchError> {
    // SAFETY: two live tensors for the length of the call.
    let [out] = ffi::receive("learn_rms_norm", |out| unsafe {
        ffi::svgrl_learn_rms_norm(x.as_ptr(), weight.as_ptr(), eps, out)
    })?;
    Ok(out)
}

/// `silu(gate) * up` of `gate_up [n, 2 * I]`, gate first, `[n, I]`, with a graph.
///
/// # Errors
/// When `gate_up` is no contiguous float32 matrix of even width on the CPU.
pub fn learn_silu_mul(gate_up: &Tensor) -> Result<Tensor, TorchError> {
    // SAFETY: one live tensor for the length of the call.
    let [out] = ffi::receive("learn_silu_mul", |out| unsafe {
        ffi::svgrl_learn_silu_mul(gate_up.as_ptr(), out)
    })?;
    Ok(out)
}

/// The fused projection of rows, and how it becomes heads.
#[derive(Debug, Clone, Copy)]
pub struct LearnHeads<'a> {
    /// `[n, (Hq + 2 Hkv) * D]`: query heads, key heads, value heads.
    pub qkv: &'a Tensor,
    /// Norms over heads, where the network has them.
    pub norms: Option<HeadNorms<'a>>,
    /// The rows' rotations.
    pub rotation: Rotation<'a>,
    /// `Hq` and `Hkv`.
    pub heads: (i64, i64),
}

/// Splits, normalises and rotates: q `[n, Hq, D]`, k and v `[n, Hkv, D]`, with a graph.
///
/// # Errors
/// When shapes or types do not fit; a head of more than 1,024 numbers.
pub fn learn_turn_heads(args: LearnHeads) -> Result<[Tensor; 3], TorchError> {
    let none = std::ptr::null();
    let (q_weight, k_weight, eps) = match args.norms {
        Some(norms) => (norms.q.as_ptr(), norms.k.as_ptr(), f64::from(norms.eps)),
        None => (none, none, 0.0),
    };
    let inputs = [
        args.qkv.as_ptr(),
        args.rotation.cos.as_ptr(),
        args.rotation.sin.as_ptr(),
        q_weight,
        k_weight,
    ];
    let (q_heads, kv_heads) = args.heads;
    // SAFETY: five pointers as the shim reads them, null only for the norms; three results.
    ffi::receive("learn_turn_heads", |out| unsafe {
        ffi::svgrl_learn_turn_heads(inputs.as_ptr(), q_heads, kv_heads, eps, out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closeness::{FLOAT32, relative_gap};
    use crate::seeded;
    use tch::{Device, Kind};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
    const EPS: f64 = 1e-6;

    fn leaf(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, F32).set_requires_grad(true)
    }

    /// Outputs and gradients of `inputs` by `function`, in float64 where `wide`; the outputs' gradients are fixed.
    fn of(
        inputs: &[Tensor],
        wide: bool,
        function: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    ) -> Vec<Tensor> {
        let kind = if wide { Kind::Double } else { Kind::Float };
        let leaves: Vec<Tensor> = inputs
            .iter()
            .map(|input| input.detach().to_kind(kind).copy().set_requires_grad(true))
            .collect();
        let outputs = function(&leaves);
        // The same for both kinds, whatever other tests draw meanwhile from the one generator.
        let pushes = outputs.iter().map(|out| {
            let waves = (Tensor::arange(out.numel() as i64, F32) * 0.7).sin();
            waves.view(out.size().as_slice()).to_kind(kind)
        });
        let sums: Vec<Tensor> = outputs
            .iter()
            .zip(pushes)
            .map(|(out, push)| (out * push).sum(kind))
            .collect();
        Tensor::stack(&sums, 0).sum(kind).backward();
        let grads = leaves.iter().map(Tensor::grad);
        outputs.iter().map(Tensor::detach).chain(grads).collect()
    }

    /// Float32 against the same in float64.
    fn close(got: &[Tensor], want: &[Tensor]) {
        assert_eq!(got.len(), want.len());
        for (at, (got, want)) in got.iter().zip(want).enumerate() {
            let gap = relative_gap(got, want);
            assert!(gap < FLOAT32, "{at}: {gap:e}");
        }
    }

    fn norm(x: &Tensor, weight: &Tensor) -> Tensor {
        let mean = x.square().mean_dim([-1i64].as_slice(), true, x.kind());
        x * (mean + EPS).rsqrt() * weight
    }

    #[test]
    fn rms_norm_and_its_gradients_match_float64() {
        let _turn = seeded(1);
        for (rows, width) in [(1i64, 7i64), (130, 256), (64, 30)] {
            let inputs = [leaf(&[rows, 2, width]), leaf(&[width])];
            let ours = |x: &[Tensor]| vec![learn_rms_norm(&x[0], &x[1], EPS).unwrap()];
            let plain = |x: &[Tensor]| vec![norm(&x[0], &x[1])];
            close(&of(&inputs, false, &ours), &of(&inputs, true, &plain));
        }
    }

    #[test]
    fn silu_mul_and_its_gradient_match_float64() {
        let _turn = seeded(2);
        for (rows, width) in [(1i64, 1i64), (9, 15), (200, 768)] {
            let inputs = [leaf(&[rows, 2 * width])];
            let ours = |x: &[Tensor]| vec![learn_silu_mul(&x[0]).unwrap()];
            let plain = |x: &[Tensor]| {
                let halves = x[0].chunk(2, -1);
                vec![halves[0].silu() * &halves[1]]
            };
            close(&of(&inputs, false, &ours), &of(&inputs, true, &plain));
        }
    }

    #[test]
    fn heads_and_their_gradients_match_float64_with_and_without_norms() {
        let _turn = seeded(3);
        let (rows, q_heads, kv_heads, dim) = (150i64, 6i64, 2i64, 32i64);
        let angle = Tensor::rand([rows, dim / 2], F32) * 6.0;
        let angle = Tensor::cat(&[&angle, &angle], -1);
        let (cos, sin) = (angle.cos(), angle.sin());
        let qkv = leaf(&[rows, (q_heads + 2 * kv_heads) * dim]);
        let (wq, wk) = (leaf(&[dim]), leaf(&[dim]));
        let rotate = |x: &Tensor| {
            let halves = x.chunk(2, -1);
            let turned = Tensor::cat(&[halves[1].neg(), halves[0].shallow_clone()], -1);
            let wide = |table: &Tensor| table.to_kind(x.kind()).unsqueeze(1);
            x * wide(&cos) + turned * wide(&sin)
        };
        let ours = |x: &[Tensor]| {
            let norms = (x.len() > 1).then(|| HeadNorms {
                q: &x[1],
                k: &x[2],
                eps: EPS as f32,
            });
            let rotation = Rotation {
                cos: &cos,
                sin: &sin,
            };
            let heads = (q_heads, kv_heads);
            let args = LearnHeads {
                qkv: &x[0],
                norms,
                rotation,
                heads,
            };
            learn_turn_heads(args).unwrap().into_iter().collect()
        };
        let plain = |x: &[Tensor]| {
            let all = x[0].view([rows, -1, dim]);
            let (q, k) = (all.narrow(1, 0, q_heads), all.narrow(1, q_heads, kv_heads));
            let (q, k) = match x.len() {
                1 => (q, k),
                _ => (norm(&q, &x[1]), norm(&k, &x[2])),
            };
            let v = all.narrow(1, q_heads + kv_heads, kv_heads);
            vec![rotate(&q), rotate(&k), v]
        };
        for inputs in [vec![qkv.shallow_clone()], vec![qkv, wq, wk]] {
            close(&of(&inputs, false, &ours), &of(&inputs, true, &plain));
        }
    }

    #[test]
    fn without_a_graph_none_is_made() {
        let _turn = seeded(4);
        let (x, weight) = (leaf(&[3, 8]), leaf(&[8]));
        let out = tch::no_grad(|| learn_rms_norm(&x, &weight, EPS).unwrap());
        assert!(!out.requires_grad());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, weight) = (Tensor::ones([3, 8], F32), Tensor::ones([7], F32));
        let refused = learn_rms_norm(&x, &weight, EPS).unwrap_err();
        assert!(refused.to_string().contains("does not fit"), "{refused}");
        assert!(learn_silu_mul(&Tensor::ones([3, 7], F32)).is_err());
        let strided = Tensor::ones([8, 4], F32).transpose(0, 1);
        assert!(learn_silu_mul(&strided).is_err());
    }
}
