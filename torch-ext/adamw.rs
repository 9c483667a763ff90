//! The optimizer's multi-tensor kernels: AdamW in one pass, and norms.
//!
//! The moments are the caller's tensors, so that checkpoints hold them. The
//! update is AdamW of Loshchilov and Hutter (arXiv:1711.05101) as PyTorch's
//! fused kernel computes it, on CPU and CUDA.

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use crate::TorchError;
use crate::ffi;
use crate::ffi::check;

/// The scalars of one AdamW update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwScalars {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Decoupled weight decay; the update subtracts `lr * weight_decay * param`.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// One AdamW update of a list of tensors; entry `i` of every list belongs
/// together and has one shape, type and device.
#[derive(Debug, Clone, Copy)]
pub struct AdamwArgs<'a> {
    /// Written in place.
    pub params: &'a [Tensor],
    /// Read only.
    pub grads: &'a [Tensor],
    /// First moments, written in place.
    pub exp_avg: &'a [Tensor],
    /// Second moments, written in place.
    pub exp_avg_sq: &'a [Tensor],
    /// The number of this update, counted from 1, as float32 tensors of one
    /// element on the parameters' device; the caller counts.
    pub steps: &'a [Tensor],
    /// The scalars, the same for all entries.
    pub scalars: AdamwScalars,
}

/// Applies one AdamW update in place.
///
/// # Errors
/// When the lists' lengths differ, or libtorch refuses the tensors.
pub fn fused_adamw_(args: AdamwArgs) -> Result<(), TorchError> {
    let count = args.params.len();
    let lengths = [
        args.grads.len(),
        args.exp_avg.len(),
        args.exp_avg_sq.len(),
        args.steps.len(),
    ];
    if lengths.iter().any(|&length| length != count) {
        return Err(TorchError::argument(
            "fused_adamw_",
            format!(
                "lists must have one length, got {count} parameters and {lengths:?} of the others"
            ),
        ));
    }
    if count == 0 {
        return Ok(());
    }
    let s = args.scalars;
    let scalars = [s.lr, s.beta1, s.beta2, s.weight_decay, s.eps];
    // SAFETY: five lists of `count` live tensors and five scalars, as the shim reads.
    let status = unsafe {
        ffi::svgrl_fused_adamw(
            ffi::pointers(args.params).as_ptr(),
            ffi::pointers(args.grads).as_ptr(),
            ffi::pointers(args.exp_avg).as_ptr(),
            ffi::pointers(args.exp_avg_sq).as_ptr(),
            ffi::pointers(args.steps).as_ptr(),
            count,
            scalars.as_ptr(),
        )
    };
    check("fused_adamw_", status)
}

/// The Euclidean norm of each tensor, as float32 scalars `[]` on its device.
///
/// # Errors
/// Whatever libtorch raises, for instance on integer tensors.
pub fn foreach_norm(tensors: &[Tensor]) -> Result<Vec<Tensor>, TorchError> {
    let mut raw = vec![std::ptr::null_mut::<C_tensor>(); tensors.len()];
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    // SAFETY: `raw` has room for one new tensor for each of the list.
    let status = unsafe {
        ffi::svgrl_foreach_norm(
            ffi::pointers(tensors).as_ptr(),
            tensors.len(),
            raw.as_mut_ptr(),
        )
    };
    check("foreach_norm", status)?;
    // SAFETY: status 0, so every place holds a fresh tensor that is ours alone.
    Ok(raw
        .into_iter()
        .map(|pointer| unsafe { Tensor::from_ptr(pointer) })
        .collect())
}

/// The Euclidean norm of all tensors together, a float32 scalar `[]` on their
/// common device.
///
/// # Errors
/// When the list is empty, or as [`foreach_norm`].
pub fn global_norm(tensors: &[Tensor]) -> Result<Tensor, TorchError> {
    if tensors.is_empty() {
        return Err(TorchError::argument(
            "global_norm",
            "needs at least one tensor, got none",
        ));
    }
    let norms = foreach_norm(tensors)?;
    Ok(Tensor::stack(&norms, 0).square().sum(Kind::Float).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, no_grad};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// Algorithm 2 of arXiv:1711.05101 in float64, one element.
    fn reference(p: f64, grads: &[f64], s: AdamwScalars) -> f64 {
        let (mut p, mut m, mut v) = (p, 0.0, 0.0);
        for (i, g) in grads.iter().enumerate() {
            let t = (i + 1) as i32;
            m = s.beta1 * m + (1.0 - s.beta1) * g;
            v = s.beta2 * v + (1.0 - s.beta2) * g * g;
            let m_hat = m / (1.0 - s.beta1.powi(t));
            let v_hat = v / (1.0 - s.beta2.powi(t));
            p -= s.lr * (m_hat / (v_hat.sqrt() + s.eps) + s.weight_decay * p);
        }
        p
    }

    #[test]
    fn three_updates_follow_the_paper() {
        let scalars = AdamwScalars {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            weight_decay: 0.1,
            eps: 1e-8,
        };
        let params = [
            Tensor::from_slice(&[1.0f32, -2.0, 0.5]),
            Tensor::ones([2, 2], F32),
        ];
        let exp_avg: Vec<_> = params.iter().map(Tensor::zeros_like).collect();
        let exp_avg_sq: Vec<_> = params.iter().map(Tensor::zeros_like).collect();
        let grads = [0.3, -0.2, 0.7];
        no_grad(|| {
            for (i, g) in grads.iter().enumerate() {
                let step = Tensor::from((i + 1) as f32);
                fused_adamw_(AdamwArgs {
                    params: &params,
                    grads: &[
                        Tensor::full_like(&params[0], *g),
                        Tensor::full_like(&params[1], *g),
                    ],
                    exp_avg: &exp_avg,
                    exp_avg_sq: &exp_avg_sq,
                    steps: &[step.copy(), step],
                    scalars,
                })
                .unwrap();
            }
        });
        for (start, got) in [1.0, -2.0, 0.5]
            .into_iter()
            .zip(Vec::<f32>::try_from(&params[0]).unwrap())
        {
            // float32 rounding of three steps of size 0.01
            let want = reference(start, &grads, scalars);
            assert!((want - f64::from(got)).abs() < 1e-6, "{want} {got}");
        }
        assert!((exp_avg[1].double_value(&[0, 0]) - 0.0763).abs() < 1e-6);
    }

    #[test]
    fn lists_of_different_lengths_are_refused() {
        let one = [Tensor::zeros([1], F32)];
        let scalars = AdamwScalars {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.0,
            eps: 1e-8,
        };
        let args = AdamwArgs {
            params: &one,
            grads: &[],
            exp_avg: &one,
            exp_avg_sq: &one,
            steps: &one,
            scalars,
        };
        assert!(matches!(
            fused_adamw_(args),
            Err(TorchError::Argument { .. })
        ));
    }

    #[test]
    fn global_norm_is_that_of_the_tensors_laid_end_to_end() {
        let list = [
            Tensor::from_slice(&[3.0f32]),
            Tensor::from_slice(&[0.0f32, 4.0]),
        ];
        assert_eq!(global_norm(&list).unwrap().double_value(&[]), 5.0);
        assert!(global_norm(&[]).is_err());
    }
}
