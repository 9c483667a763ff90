//! Pieces of the vision towers: norms, rotation by row and column, attention within runs.

use tch::{Kind, Tensor};

use crate::layers::{RotaryTables, reduce_kind, rms_norm};
use crate::packed_attention::Runs;
use crate::param_layout::ParamLayout;
use crate::params::{ParamId, ParamTable};

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance, with a bias.
    Layer,
    /// Root mean square alone.
    Rms,
}

/// A norm's parameters, before the buffers exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormParams {
    weight: ParamId,
    bias: Option<ParamId>,
}

/// A norm over the last dimension.
#[derive(Debug)]
pub(crate) struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
}

impl NormParams {
    pub(crate) fn declare(layout: &mut ParamLayout, name: &str, wide: i64, kind: NormKind) -> Self {
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
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
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

/// Cosines and sines `[n, D]` of a rotation by row and column: a quarter of the head's width
/// turns by each, twice over; angles in float32. `places [n, 2]` int64.
pub(crate) fn axial_tables(inv_freq: &Tensor, places: &Tensor, kind: Kind) -> RotaryTables {
    let angles = places.to_kind(Kind::Float).unsqueeze(-1) * inv_freq;
    let angles = angles.flatten(1, 2);
    let angles = Tensor::cat(&[&angles, &angles], -1);
    let kind = reduce_kind(kind);
    RotaryTables {
        cos: angles.cos().to_kind(kind),
        sin: angles.sin().to_kind(kind),
    }
}

/// Attention of `q`, `k`, `v [n, heads, D]` within consecutive runs of rows, each row seeing all of
/// its run: `[n, heads * D]`. On a GPU one call, whatever their lengths.
pub(crate) fn run_attention(q: &Tensor, k: &Tensor, v: &Tensor, runs: &Runs) -> Tensor {
    if let Some(mixed) = runs.attend(q, k, v) {
        return mixed;
    }
    let lengths = runs.lengths.as_slice();
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
