//! Gradients in storage of the caller's choice, and backward from any output.

use std::ffi::c_int;

use tch::Tensor;

use crate::TorchError;
use crate::ffi;
use crate::ffi::check;

/// Makes `grad` the gradient tensor of the leaf `param`.
///
/// Backward passes then add into `grad`'s storage in place (outside of
/// `create_graph`), so `grad` may be a view of one flat buffer: zero it between
/// steps, never replace it. Both have the same shape, type and device.
///
/// # Errors
/// When `param` is no leaf that requires a gradient, or the two do not match.
pub fn set_grad(param: &Tensor, grad: &Tensor) -> Result<(), TorchError> {
    // SAFETY: both pointers are live tensors for the length of the call.
    check("set_grad", unsafe {
        ffi::svgrl_set_grad(param.as_ptr(), grad.as_ptr())
    })
}

/// Backward from `output` with the gradient `output_grad` of the same shape,
/// freeing the graph on the way unless `keep_graph`.
///
/// # Errors
/// Whatever autograd raises, for instance shapes that differ or a graph that
/// was freed before.
pub fn backward(output: &Tensor, output_grad: &Tensor, keep_graph: bool) -> Result<(), TorchError> {
    // SAFETY: both pointers are live tensors for the length of the call.
    check("backward", unsafe {
        ffi::svgrl_backward(
            output.as_ptr(),
            output_grad.as_ptr(),
            c_int::from(keep_graph),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn two_backward_passes_add_up_in_the_callers_buffer() {
        let flat = Tensor::zeros([10], F32);
        let view = flat.narrow(0, 4, 6).view([2, 3]);
        let address = view.data_ptr();
        let param = Tensor::ones([2, 3], F32).set_requires_grad(true);
        set_grad(&param, &view).unwrap();

        let x = Tensor::arange(6, F32).view([2, 3]);
        for _ in 0..2 {
            (&param * &x).sum(Kind::Float).backward();
        }

        assert_eq!(param.grad().data_ptr(), address);
        let expected: Vec<f32> = vec![0., 0., 0., 0., 0., 2., 4., 6., 8., 10.];
        assert_eq!(Vec::<f32>::try_from(&flat).unwrap(), expected);
        let _ = flat.narrow(0, 4, 6).zero_();
        assert_eq!(param.grad().sum(Kind::Float).double_value(&[]), 0.0);
    }

    #[test]
    fn a_view_of_a_flat_parameter_buffer_learns_in_place() {
        let flat = Tensor::ones([6], F32);
        let grads = Tensor::zeros([6], F32);
        let param = flat
            .narrow(0, 2, 4)
            .view([2, 2])
            .detach()
            .set_requires_grad(true);
        set_grad(&param, &grads.narrow(0, 2, 4).view([2, 2])).unwrap();
        param.square().sum(Kind::Float).backward();
        assert_eq!(
            Vec::<f32>::try_from(&grads).unwrap(),
            [0., 0., 2., 2., 2., 2.]
        );
        tch::no_grad(|| {
            let mut whole = flat.shallow_clone();
            let _ = whole.g_sub_(&grads);
        });
        assert_eq!(param.sum(Kind::Float).double_value(&[]), -4.0);
    }

    #[test]
    fn a_gradient_of_another_shape_is_refused_with_both_shapes() {
        let param = Tensor::ones([2, 3], F32).set_requires_grad(true);
        let error = set_grad(&param, &Tensor::zeros([6], F32)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("[6]") && text.contains("[2, 3]"), "{text}");
    }

    #[test]
    fn an_output_gradient_flows_as_given() {
        let x = Tensor::from_slice(&[1f32, 2., 3.]).set_requires_grad(true);
        let y = x.square();
        backward(&y, &Tensor::from_slice(&[1f32, 0., -1.]), false).unwrap();
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [2., 0., -6.]);
        let freed = backward(&y, &Tensor::from_slice(&[1f32, 0., -1.]), false);
        assert!(freed.is_err());
    }
}
