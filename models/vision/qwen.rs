//! What the vision towers of Qwen2.5-VL and Qwen3-VL share: patches in merge order, the places
//! of patches, rotated attention within runs.

use tch::{Device, Kind, Tensor};

use super::layers::{Linear, LinearLeaves, axial_tables, run_attention};
use crate::layers::{inverse_frequencies, reduce_kind, rotate};
use crate::params::{Layout, ParamTable};

/// The leaves of a block's attention.
pub(super) struct AttentionLeaves {
    qkv: LinearLeaves,
    out: LinearLeaves,
}

/// Attention with q, k and v in one matrix, rotated by row and column.
pub(super) struct Attention {
    qkv: Linear,
    out: Linear,
    heads: i64,
}

impl AttentionLeaves {
    pub(super) fn declare(layout: &mut Layout, name: &str, wide: i64) -> Self {
        Self {
            qkv: LinearLeaves::declare(layout, &format!("{name}.qkv"), (3 * wide, wide)),
            out: LinearLeaves::declare(layout, &format!("{name}.proj"), (wide, wide)),
        }
    }

    pub(super) fn bind(self, params: &ParamTable, heads: i64) -> Attention {
        Attention {
            qkv: self.qkv.bind(params),
            out: self.out.bind(params),
            heads,
        }
    }
}

impl Attention {
    /// `x [n, D]` within runs of `lengths` rows.
    pub(super) fn apply(&self, x: &Tensor, tables: &(Tensor, Tensor), lengths: &[i64]) -> Tensor {
        let (rows, kind) = (x.size()[0], x.kind());
        let qkv = self.qkv.apply(x).view([rows, 3, self.heads, -1]);
        let turned = |part: i64| {
            let x = qkv.select(1, part).to_kind(reduce_kind(kind));
            rotate(&x, tables).to_kind(kind)
        };
        let mixed = run_attention(
            &turned(0),
            &turned(1),
            &qkv.select(1, 2).contiguous(),
            lengths,
        );
        self.out.apply(&mixed)
    }
}

/// Row and column of every patch, pictures one after the other, patches that are merged next to
/// each other.
pub(super) fn places(grids: &[(i64, i64)], merge: i64) -> Vec<[i64; 2]> {
    let mut places = Vec::new();
    for (rows, columns) in grids {
        for (block_row, block_column) in blocks(*rows / merge, *columns / merge) {
            for (row, column) in blocks(merge, merge) {
                places.push([block_row * merge + row, block_column * merge + column]);
            }
        }
    }
    places
}

/// All pairs below the bounds, row by row.
pub(super) fn blocks(rows: i64, columns: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

/// The rotation's tables of `places`; each head turns half by rows, half by columns.
pub(super) fn tables(
    places: &[[i64; 2]],
    head_dim: i64,
    (kind, device): (Kind, Device),
) -> (Tensor, Tensor) {
    let inv_freq = inverse_frequencies(10_000.0, head_dim / 2, device);
    let places = Tensor::from_slice(places.as_flattened())
        .view([-1, 2])
        .to_device(device);
    axial_tables(&inv_freq, &places, kind)
}
