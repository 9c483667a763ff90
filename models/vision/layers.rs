//! Pieces of the vision towers: linear maps with biases, norms, rotation, attention within runs.

use tch::{Kind, Tensor};

use crate::layers::{reduce_kind, rms_norm};
use crate::params::{Layout, ParamTable};

/// A matrix `[out, in]` and a bias `[out]`, by their numbers among the leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearLeaves {
    weight: usize,
    bias: Option<usize>,
}

/// A linear map.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl LinearLeaves {
    /// `name.weight` and `name.bias`.
    pub(crate) fn declare(layout: &mut Layout, name: &str, (out, wide): (i64, i64)) -> Self {
        Self::stacked(layout, &[(name.to_owned(), out)], wide, true)
    }

    /// Several maps of one input as one, `(name, out)` each.
    pub(crate) fn stacked(
        layout: &mut Layout,
        parts: &[(String, i64)],
        wide: i64,
        bias: bool,
    ) -> Self {
        let weights = parts
            .iter()
            .map(|(name, out)| (format!("{name}.weight"), vec![*out, wide]));
        let weight = layout.leaf(weights.collect());
        let biases = parts
            .iter()
            .map(|(name, out)| (format!("{name}.bias"), vec![*out]));
        let bias = bias.then(|| layout.leaf(biases.collect()));
        Self { weight, bias }
    }

    /// A convolution over patches, `name.weight [out, ..]`: a linear map of flattened patches.
    pub(crate) fn patches(layout: &mut Layout, name: &str, shape: &[i64], bias: bool) -> Self {
        Self {
            weight: layout.one(format!("{name}.weight"), shape),
            bias: bias.then(|| layout.one(format!("{name}.bias"), &shape[..1])),
        }
    }

    pub(crate) fn bind(self, params: &ParamTable) -> Linear {
        let weight = params.tensor(self.weight);
        Linear {
            weight,
            bias: self.bias.map(|bias| params.tensor(bias)),
        }
    }
}

impl Linear {
    /// `x [.., in]` to `[.., out]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        // The view is made here and not once, so that gradients reach the leaf itself.
        let weight = self.weight.view([self.weight.size()[0], -1]);
        x.linear(&weight, self.bias.as_ref())
    }
}

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance, with a bias.
    Layer,
    /// Root mean square alone.
    Rms,
}

/// A norm's leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormLeaves {
    weight: usize,
    bias: Option<usize>,
}

/// A norm over the last dimension.
#[derive(Debug)]
pub(crate) struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
}

impl NormLeaves {
    pub(crate) fn declare(layout: &mut Layout, name: &str, wide: i64, kind: NormKind) -> Self {
        Self {
            weight: layout.one(format!("{name}.weight"), &[wide]),
            bias: (kind == NormKind::Layer).then(|| layout.one(format!("{name}.bias"), &[wide])),
        }
    }

    pub(crate) fn bind(self, params: &ParamTable, eps: f64) -> Norm {
        Norm {
            weight: params.tensor(self.weight),
            bias: self.bias.map(|bias| params.tensor(bias)),
            eps,
        }
    }
}

impl Norm {
    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        match &self.bias {
            None => rms_norm(x, &self.weight, self.eps),
            Some(bias) => x.layer_norm(
                self.weight.size(),
                Some(&self.weight),
                Some(bias),
                self.eps,
                false,
            ),
        }
    }
}

/// Activation functions by their names in configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`
    Gelu,
    /// `gelu_pytorch_tanh`
    GeluTanh,
    /// `silu`
    Silu,
}

impl Activation {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Self::Gelu,
            "gelu_pytorch_tanh" => Self::GeluTanh,
            "silu" => Self::Silu,
            _ => return None,
        })
    }

    pub(crate) fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Silu => x.silu(),
        }
    }
}

/// Cosines and sines `[n, D]` of a rotation by row and column: a quarter of the head's width
/// turns by each, twice over; angles in float32. `places [n, 2]` int64.
pub(crate) fn axial_tables(inv_freq: &Tensor, places: &Tensor, kind: Kind) -> (Tensor, Tensor) {
    let angles = places.to_kind(Kind::Float).unsqueeze(-1) * inv_freq;
    let angles = angles.flatten(1, 2);
    let angles = Tensor::cat(&[&angles, &angles], -1);
    let kind = reduce_kind(kind);
    (angles.cos().to_kind(kind), angles.sin().to_kind(kind))
}

/// Attention of `q`, `k`, `v [n, heads, D]` within consecutive runs of `lengths` rows, each row
/// seeing all of its run: `[n, heads * D]`.
pub(crate) fn run_attention(q: &Tensor, k: &Tensor, v: &Tensor, lengths: &[i64]) -> Tensor {
    let size = q.size();
    let (rows, heads, dim) = (size[0], size[1], size[2]);
    let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
        Tensor::scaled_dot_product_attention(q, k, v, None::<&Tensor>, 0.0, false, None, false)
    };
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        let shaped = |x: &Tensor| {
            x.view([lengths.len() as i64, -1, heads, dim])
                .transpose(1, 2)
        };
        return attend(&shaped(q), &shaped(k), &shaped(v))
            .transpose(1, 2)
            .reshape([rows, heads * dim]);
    }
    let pieces = |x: &Tensor| x.transpose(0, 1).unsqueeze(0).split_with_sizes(lengths, 2);
    let parts: Vec<Tensor> = pieces(q)
        .iter()
        .zip(pieces(k))
        .zip(pieces(v))
        .map(|((q, k), v)| attend(q, &k, &v))
        .collect();
    Tensor::cat(&parts, 2)
        .squeeze_dim(0)
        .transpose(0, 1)
        .reshape([rows, heads * dim])
}
