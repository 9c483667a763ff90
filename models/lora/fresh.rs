//! How adapters begin, as in PEFT: A uniform as Kaiming has it with `a = sqrt(5)`, B zero, so that they
//! have no effect yet.

use tch::{Device, Kind, Tensor};

use super::dropout::{mix, name_key};
use crate::params::ParamTable;

/// Draws the adapters of `params` from `seed`; a layer's numbers depend on its name and on no other layer.
pub(crate) fn draw_adapters(params: &ParamTable, seed: u64) {
    tch::no_grad(|| {
        for adapter in params.adapters() {
            let _turn = torch_ext::seeded(mix(seed, name_key(&adapter.module)));
            // sqrt(6 / ((1 + 5) * inputs))
            let bound = 1.0 / (adapter.a.shape[1] as f64).sqrt();
            let mut fresh = Tensor::empty(adapter.a.shape.as_slice(), (Kind::Float, Device::Cpu));
            let _ = fresh.uniform_(-bound, bound);
            params.view(&adapter.a).copy_(&fresh);
            let _ = params.view(&adapter.b).zero_();
        }
    });
}
