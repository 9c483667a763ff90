//! Taking a network's weights elsewhere: to the host while somebody else needs the accelerator, and back.

use tch::{Device, Kind, Tensor};

use crate::ModelError;

/// What is done to each tensor.
pub(crate) type Carrier<'a> = dyn FnMut(&mut Tensor) + 'a;

/// Something that holds weights.
pub(crate) trait Carry {
    /// Shows every tensor of it.
    fn carry(&mut self, carrier: &mut Carrier);
}

impl Carry for Tensor {
    fn carry(&mut self, carrier: &mut Carrier) {
        carrier(self);
    }
}

impl<T: Carry> Carry for Option<T> {
    fn carry(&mut self, carrier: &mut Carrier) {
        self.iter_mut().for_each(|part| part.carry(carrier));
    }
}

impl<T: Carry> Carry for Vec<T> {
    fn carry(&mut self, carrier: &mut Carrier) {
        self.iter_mut().for_each(|part| part.carry(carrier));
    }
}

impl<T: Carry, const N: usize> Carry for [T; N] {
    fn carry(&mut self, carrier: &mut Carrier) {
        self.iter_mut().for_each(|part| part.carry(carrier));
    }
}

impl<A: Carry, B: Carry> Carry for (A, B) {
    fn carry(&mut self, carrier: &mut Carrier) {
        self.0.carry(carrier);
        self.1.carry(carrier);
    }
}

/// Takes every tensor of `what` to `place`; those of kind `from` take its kind, wider ones keep theirs.
pub(super) fn moved(
    what: &mut impl Carry,
    from: Kind,
    (kind, device): (Kind, Device),
) -> Result<(), ModelError> {
    let mut problem = None;
    what.carry(&mut |tensor| {
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

/// Implements [`Carry`] for structs by the fields that hold weights.
macro_rules! carried {
    ($($name:ident { $($field:ident),+ })+) => {
        $(impl $crate::encoder::carry::Carry for $name {
            fn carry(&mut self, carrier: &mut $crate::encoder::carry::Carrier) {
                $(self.$field.carry(carrier);)+
            }
        })+
    };
}
pub(crate) use carried;
