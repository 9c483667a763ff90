//! A linear map: of encoders as it is ([`Linear`]), of policies with the adapters (LoRA) that it may
//! have ([`Projection`]).

use tch::Tensor;

use crate::lora::{AdapterParams, AdapterPass, AdapterStack};
use crate::param_layout::ParamLayout;
use crate::params::{ParamId, ParamTable};

/// `y = x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`, or a convolution's over patches `[out, ..]`, which is a map of flattened patches.
    pub(crate) weight: Tensor,
    /// `[out]`
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// `x [.., in]` to `[.., out]`, in the weights' kind.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let kind = self.weight.kind();
        let converted = (x.kind() != kind).then(|| x.to_kind(kind));
        let x = converted.as_ref().unwrap_or(x);
        match self.weight.dim() {
            2 => x.linear(&self.weight, self.bias.as_ref()),
            // The view is made here and not once, so that gradients reach the leaf itself.
            _ => {
                let weight = self.weight.view([self.weight.size()[0], -1]);
                x.linear(&weight, self.bias.as_ref())
            }
        }
    }
}

/// A linear map that may have adapters.
#[derive(Debug)]
pub(crate) struct Projection {
    linear: Linear,
    adapters: Option<AdapterStack>,
}

impl Projection {
    /// `x [.., in]` to `[.., out]`, in the weights' kind.
    pub(crate) fn forward(&self, x: &Tensor, pass: AdapterPass) -> Tensor {
        let y = self.linear.forward(x);
        match &self.adapters {
            None => y,
            Some(adapters) => adapters.add(y, x, pass),
        }
    }

    /// `sum [n, out]` plus the map of `x [n, in]`, in `sum`'s own memory: where nothing stands beside the matrix its
    /// product adds to what is there, with no operator more. Not for graphs.
    pub(crate) fn forward_onto(&self, x: &Tensor, pass: AdapterPass, mut sum: Tensor) -> Tensor {
        let Linear { weight, bias } = &self.linear;
        let bare = self.adapters.is_none() && bias.is_none() && weight.dim() == 2;
        if bare && x.kind() == weight.kind() {
            return sum.addmm_(x, &weight.tr());
        }
        sum += self.forward(x, pass);
        sum
    }
}

/// A linear map's parameters, before the buffers exist.
#[derive(Debug, Clone)]
pub(crate) struct LinearParams {
    weight: ParamId,
    bias: Option<ParamId>,
    adapters: Option<AdapterParams>,
}

impl LinearParams {
    /// `name.weight [out, in]` and `name.bias`.
    pub(crate) fn declare(layout: &mut ParamLayout, name: &str, [out, wide]: [i64; 2]) -> Self {
        Self::stacked(layout, &[(name.to_owned(), out)], wide, true)
    }

    /// Several maps of one input, which is `wide`, as one: `(name, out)` each.
    pub(crate) fn stacked(
        layout: &mut ParamLayout,
        parts: &[(String, i64)],
        wide: i64,
        bias: bool,
    ) -> Self {
        let weights = parts
            .iter()
            .map(|(name, out)| (format!("{name}.weight"), vec![*out, wide]));
        let weight = layout.stacked(weights.collect());
        let biases = parts
            .iter()
            .map(|(name, out)| (format!("{name}.bias"), vec![*out]));
        let bias = bias.then(|| layout.stacked(biases.collect()));
        Self {
            weight,
            bias,
            adapters: AdapterParams::declare(layout, parts, wide),
        }
    }

    /// A convolution over patches, `name.weight [out, ..]`, which never has adapters.
    pub(crate) fn patches(layout: &mut ParamLayout, name: &str, shape: &[i64], bias: bool) -> Self {
        layout.never_adapted(name);
        Self {
            weight: layout.one(format!("{name}.weight"), shape),
            bias: bias.then(|| layout.one(format!("{name}.bias"), &shape[..1])),
            adapters: None,
        }
    }

    pub(crate) fn bind(self, params: &ParamTable) -> Projection {
        Projection {
            linear: Linear {
                weight: params.tensor(self.weight),
                bias: self.bias.map(|bias| params.tensor(bias)),
            },
            adapters: self.adapters.map(|adapters| adapters.bind(params)),
        }
    }
}
