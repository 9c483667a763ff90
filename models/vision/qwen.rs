//! What the vision towers of Qwen2.5-VL and Qwen3-VL share: patches in merge order, their blocks,
//! the merger of patches behind them.

use tch::{Device, Kind, Tensor};

use super::layers::{Norm, NormKind, NormParams, axial_tables, run_attention};
use crate::layers::{Activation, RotaryTables, inverse_frequencies, reduce_kind, rotate};
use crate::linear::{LinearParams, Projection};
use crate::lora::AdapterPass;
use crate::packed_attention::Runs;
use crate::param_layout::ParamLayout;
use crate::params::ParamTable;

/// Epsilon of all norms.
const EPS: f64 = 1e-6;

/// A block's parameters, before the buffers exist.
pub(super) struct QwenBlockParams {
    norms: [NormParams; 2],
    qkv: LinearParams,
    out: LinearParams,
    feed: FeedParams,
}

enum FeedParams {
    Plain([LinearParams; 2]),
    Gated([LinearParams; 2]),
}

/// A pre-norm block: attention with q, k and v in one matrix, rotated by row and column, then a
/// feed-forward.
pub(super) struct QwenBlock {
    norms: [Norm; 2],
    qkv: Projection,
    out: Projection,
    heads: i64,
    feed: FeedForward,
    activation: Activation,
}

enum FeedForward {
    /// Up and down.
    Plain([Projection; 2]),
    /// Gate above up as one, and down.
    Gated([Projection; 2]),
}

/// A block to be declared.
pub(super) struct QwenBlockShape<'a> {
    /// Before its tensors' names.
    pub(super) name: &'a str,
    /// Width of the residual stream.
    pub(super) wide: i64,
    /// Width of the feed-forward.
    pub(super) inner: i64,
    pub(super) norm: NormKind,
    pub(super) feed: FeedNames<'a>,
}

/// What the maps of a feed-forward are called.
pub(super) enum FeedNames<'a> {
    /// Up and down.
    Plain([&'a str; 2]),
    /// Gate and up, and down.
    Gated([&'a str; 2], &'a str),
}

impl QwenBlockParams {
    pub(super) fn declare(layout: &mut ParamLayout, shape: QwenBlockShape) -> Self {
        let QwenBlockShape {
            name, wide, inner, ..
        } = shape;
        let named = |part: &str| format!("{name}.{part}");
        let map = |layout: &mut ParamLayout, part: &str, out: i64, wide: i64| {
            LinearParams::declare(layout, &named(part), [out, wide])
        };
        Self {
            norms: ["norm1", "norm2"]
                .map(|part| NormParams::declare(layout, &named(part), wide, shape.norm)),
            qkv: map(layout, "attn.qkv", 3 * wide, wide),
            out: map(layout, "attn.proj", wide, wide),
            feed: match shape.feed {
                FeedNames::Plain([up, down]) => FeedParams::Plain([
                    map(layout, up, inner, wide),
                    map(layout, down, wide, inner),
                ]),
                FeedNames::Gated(pair, down) => FeedParams::Gated([
                    LinearParams::stacked(
                        layout,
                        &pair.map(|part| (named(part), inner)),
                        wide,
                        true,
                    ),
                    map(layout, down, wide, inner),
                ]),
            },
        }
    }

    pub(super) fn bind(self, params: &ParamTable, heads: i64, activation: Activation) -> QwenBlock {
        let pair = |pair: [LinearParams; 2]| pair.map(|linear| linear.bind(params));
        QwenBlock {
            norms: self.norms.map(|norm| norm.bind(params, EPS)),
            qkv: self.qkv.bind(params),
            out: self.out.bind(params),
            heads,
            feed: match self.feed {
                FeedParams::Plain(maps) => FeedForward::Plain(pair(maps)),
                FeedParams::Gated(maps) => FeedForward::Gated(pair(maps)),
            },
            activation,
        }
    }
}

impl QwenBlock {
    /// `x [n, D]`, each row seeing its run.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        (tables, runs): (&RotaryTables, &Runs),
        pass: AdapterPass,
    ) -> Tensor {
        let x = x + self.attend(&self.norms[0].forward(x), (tables, runs), pass);
        let normed = self.norms[1].forward(&x);
        let fed = match &self.feed {
            FeedForward::Plain([up, down]) => {
                down.forward(&self.activation.apply(&up.forward(&normed, pass)), pass)
            }
            FeedForward::Gated([gate_up, down]) => {
                let halves = gate_up.forward(&normed, pass).chunk(2, -1);
                down.forward(&(self.activation.apply(&halves[0]) * &halves[1]), pass)
            }
        };
        &x + fed
    }

    fn attend(
        &self,
        x: &Tensor,
        (tables, runs): (&RotaryTables, &Runs),
        pass: AdapterPass,
    ) -> Tensor {
        let (rows, kind) = (x.size()[0], x.kind());
        let qkv = self.qkv.forward(x, pass).view([rows, 3, self.heads, -1]);
        let rotated = |part: i64| {
            let x = qkv.select(1, part).to_kind(reduce_kind(kind));
            rotate(&x, tables).to_kind(kind)
        };
        let mixed = run_attention(
            &rotated(0),
            &rotated(1),
            &qkv.select(1, 2).contiguous(),
            runs,
        );
        self.out.forward(&mixed, pass)
    }
}

/// A merger's parameters, before the buffers exist.
pub(super) struct MergerParams {
    norm: NormParams,
    feed: [LinearParams; 2],
    normed: Normed,
    joined: i64,
}

/// Joins the patches of a square into one row of the decoder's width.
pub(super) struct Merger {
    norm: Norm,
    feed: [Projection; 2],
    normed: Normed,
    /// Width of the joined patches.
    joined: i64,
}

/// What a merger's norm runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Normed {
    /// Each patch.
    Patch,
    /// The joined patches.
    Joined,
}

/// A merger to be declared.
pub(super) struct MergerShape<'a> {
    /// Before its tensors' names.
    pub(super) name: &'a str,
    /// Names of the norm and of the two maps.
    pub(super) parts: [&'a str; 3],
    pub(super) norm: NormKind,
    pub(super) normed: Normed,
    /// Width of a patch.
    pub(super) wide: i64,
    /// Width of the joined patches.
    pub(super) joined: i64,
    /// Width of the decoder.
    pub(super) out: i64,
}

impl MergerParams {
    pub(super) fn declare(layout: &mut ParamLayout, shape: MergerShape) -> Self {
        let MergerShape { name, joined, .. } = shape;
        let [norm, first, second] = shape.parts.map(|part| format!("{name}.{part}"));
        let width = match shape.normed {
            Normed::Patch => shape.wide,
            Normed::Joined => joined,
        };
        Self {
            norm: NormParams::declare(layout, &norm, width, shape.norm),
            feed: [
                LinearParams::declare(layout, &first, [joined, joined]),
                LinearParams::declare(layout, &second, [shape.out, joined]),
            ],
            normed: shape.normed,
            joined,
        }
    }

    pub(super) fn bind(self, params: &ParamTable) -> Merger {
        Merger {
            norm: self.norm.bind(params, EPS),
            feed: self.feed.map(|linear| linear.bind(params)),
            normed: self.normed,
            joined: self.joined,
        }
    }
}

impl Merger {
    /// `x [n, D]`, merged patches next to each other, to `[n / merge^2, out]`.
    pub(super) fn forward(&self, x: &Tensor, pass: AdapterPass) -> Tensor {
        let x = match self.normed {
            Normed::Joined => self.norm.forward(&x.view([-1, self.joined])),
            Normed::Patch => self.norm.forward(x).view([-1, self.joined]),
        };
        self.feed[1].forward(&self.feed[0].forward(&x, pass).gelu("none"), pass)
    }
}

/// Row and column of every patch, pictures one after the other, patches that are merged next to
/// each other.
pub(super) fn patch_positions(grids: &[(i64, i64)], merge: i64) -> Vec<[i64; 2]> {
    let mut positions = Vec::new();
    for (rows, columns) in grids {
        for (block_row, block_column) in pairs(*rows / merge, *columns / merge) {
            for (row, column) in pairs(merge, merge) {
                positions.push([block_row * merge + row, block_column * merge + column]);
            }
        }
    }
    positions
}

/// All pairs below the bounds, row by row.
pub(super) fn pairs(rows: i64, columns: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

/// Patches of each picture.
pub(super) fn patch_counts(grids: &[(i64, i64)]) -> Vec<i64> {
    grids.iter().map(|(rows, columns)| rows * columns).collect()
}

/// The rotation's tables of patches at `positions`; each head turns half by rows, half by columns.
pub(super) fn patch_tables(
    positions: &[[i64; 2]],
    head_dim: i64,
    (kind, device): (Kind, Device),
) -> RotaryTables {
    let inv_freq = inverse_frequencies(10_000.0, head_dim / 2, device);
    let positions = Tensor::from_slice(positions.as_flattened())
        .view([-1, 2])
        .to_device(device);
    axial_tables(&inv_freq, &positions, kind)
}
