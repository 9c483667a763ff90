//! A tensor whose memory can be given back and taken again, while views of it stay what they are.

use std::cell::Cell;

use tch::{Device, Kind, Tensor};

use crate::TorchError;
use crate::ffi;
use crate::ffi::check;

/// A flat tensor `[N]` that has its memory only while it is needed. Views of it are views of
/// whatever memory it has at the time. While it has none, nothing may compute with them: not every
/// operator of libtorch looks first, and one that does not ends the process at the null address.
#[derive(Debug)]
pub struct LooseTensor {
    tensor: Tensor,
    present: Cell<bool>,
}

impl LooseTensor {
    /// `len` elements of `kind` on `device`, without memory when this returns.
    ///
    /// # Errors
    /// libtorch refusing it.
    pub fn new(len: i64, kind: Kind, device: Device) -> Result<Self, TorchError> {
        let loose = Self {
            tensor: Tensor::empty([len], (kind, device)),
            present: Cell::new(true),
        };
        loose.release()?;
        Ok(loose)
    }

    /// The tensor `[N]`.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Whether it has memory.
    pub fn is_present(&self) -> bool {
        self.present.get()
    }

    /// Bytes that it takes while it has memory.
    pub fn bytes(&self) -> i64 {
        (self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()) as i64
    }

    /// Takes memory, not filled with anything; nothing where it has some.
    ///
    /// # Errors
    /// There is none left.
    pub fn allocate(&self) -> Result<(), TorchError> {
        if self.present.replace(true) {
            return Ok(());
        }
        // SAFETY: a live tensor for the length of the call, whose storage is its own.
        let done = check("allocate", unsafe {
            ffi::svgrl_storage_allocate(self.tensor.as_ptr())
        });
        self.present.set(done.is_ok());
        done
    }

    /// Gives the memory back; nothing where it has none.
    ///
    /// # Errors
    /// libtorch refusing it.
    pub fn release(&self) -> Result<(), TorchError> {
        if !self.present.replace(false) {
            return Ok(());
        }
        // SAFETY: a live tensor for the length of the call; who computes with it meanwhile reads the null address.
        check("release", unsafe {
            ffi::svgrl_storage_release(self.tensor.as_ptr())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn views_follow_the_memory() {
        let loose = LooseTensor::new(8, Kind::Float, Device::Cpu).unwrap();
        loose.allocate().unwrap();
        let view = loose.tensor().narrow(0, 2, 4).view([2, 2]).detach();
        for value in [1.0, 2.0] {
            loose.allocate().unwrap();
            let _ = loose.tensor().shallow_clone().fill_(value);
            assert_eq!(view, Tensor::full([2, 2], value, PLACE));
            loose.release().unwrap();
            assert!(!loose.is_present());
        }
    }

    #[test]
    fn a_graph_runs_backward_over_memory_that_was_given_back_between() {
        let loose = LooseTensor::new(4, Kind::Float, Device::Cpu).unwrap();
        let fill = || {
            loose.allocate().unwrap();
            let values = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]);
            tch::no_grad(|| loose.tensor().shallow_clone().copy_(&values));
        };
        fill();
        let mut weight = Tensor::zeros([2, 2], PLACE).set_requires_grad(true);
        weight.set_data(&loose.tensor().view([2, 2]).detach());
        let x = Tensor::from_slice(&[1f32, -1.0]).set_requires_grad(true);
        let y = x.view([1, 2]).linear(&weight, None::<&Tensor>);
        loose.release().unwrap();
        fill();
        y.sum(Kind::Float).backward();
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [4.0, 6.0]);
        assert_eq!(
            Vec::<f32>::try_from(weight.grad().view([4])).unwrap(),
            [1.0, -1.0, 1.0, -1.0]
        );
    }
}
