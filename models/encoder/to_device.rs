//! Taking a network's weights elsewhere: to the host while somebody else needs the accelerator, and back.

use tch::{Device, Kind, Tensor};

use crate::ModelError;

/// What is done to each tensor.
pub(crate) type TensorChange<'a> = dyn FnMut(&mut Tensor) + 'a;

/// Something that holds weights.
pub(crate) trait EachTensor {
    /// Shows every tensor of it.
    fn each_tensor(&mut self, change: &mut TensorChange);
}

impl EachTensor for Tensor {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        change(self);
    }
}

impl<T: EachTensor> EachTensor for Option<T> {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        self.iter_mut().for_each(|part| part.each_tensor(change));
    }
}

impl<T: EachTensor> EachTensor for Vec<T> {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        self.iter_mut().for_each(|part| part.each_tensor(change));
    }
}

impl<T: EachTensor, const N: usize> EachTensor for [T; N] {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        self.iter_mut().for_each(|part| part.each_tensor(change));
    }
}

impl<A: EachTensor, B: EachTensor> EachTensor for (A, B) {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        self.0.each_tensor(change);
        self.1.each_tensor(change);
    }
}

/// Takes every tensor of `what` to `place`; those of kind `from` take its kind, wider ones keep theirs.
pub(super) fn to_device(
    what: &mut impl EachTensor,
    from: Kind,
    (kind, device): (Kind, Device),
) -> Result<(), ModelError> {
    let mut problem = None;
    what.each_tensor(&mut |tensor| {
        if problem.is_some() {
            return;
        }
        let kind = match tensor.kind() == from {
            true => kind,
            false => tensor.kind(),
        };
        match tensor
            .f_to_device(device)
            .and_then(|there| there.f_to_kind(kind))
        {
            Ok(there) => *tensor = there,
            Err(error) => problem = Some(error),
        }
    });
    problem.map_or(Ok(()), |error| Err(error.into()))
}

/// Implements [`EachTensor`] for structs by the fields that hold weights.
macro_rules! each_tensor {
    ($($name:ident { $($field:ident),+ })+) => {
        $(impl $crate::encoder::to_device::EachTensor for $name {
            fn each_tensor(&mut self, change: &mut $crate::encoder::to_device::TensorChange) {
                $(self.$field.each_tensor(change);)+
            }
        })+
    };
}
pub(crate) use each_tensor;
