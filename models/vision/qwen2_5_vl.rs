//! Qwen2.5-VL's vision tower: rotation by row and column, attention within windows except in a few
//! blocks that see the whole picture; a merger of patches behind it.
//!
//! Follows transformers' `Qwen2_5_VisionTransformerPretrainedModel`.

use tch::Tensor;

use super::config::{TowerBefore, VisionConfig, VisionNetwork, WeightNaming};
use super::layers::NormKind;
use super::qwen::{
    FeedNames, Merger, MergerParams, MergerShape, Normed, QwenBlock, QwenBlockParams,
    QwenBlockShape, pairs, patch_counts, patch_positions, patch_tables,
};
use super::types::Pixels;
use crate::input::Features;
use crate::layers::RotaryTables;
use crate::linear::{LinearParams, Projection};
use crate::lora::AdapterPass;
use crate::packed_attention::Runs;
use crate::param_layout::ParamLayout;
use crate::params::{Component, ParamTable};

/// The tower's parameters, before the buffers exist.
pub(crate) struct Qwen25Params {
    patches: LinearParams,
    blocks: Vec<QwenBlockParams>,
    merger: MergerParams,
}

/// The tower.
pub(super) struct Qwen25Tower {
    patches: Projection,
    blocks: Vec<QwenBlock>,
    merger: Merger,
    head_dim: i64,
    merge: i64,
    /// Side of a window, in merged patches.
    window: i64,
    /// Blocks that see the whole picture.
    whole: Vec<i64>,
}

impl Qwen25Params {
    pub(super) fn declare(layout: &mut ParamLayout, tower: TowerBefore) -> Self {
        let config = tower.config;
        let prefix = match tower.names {
            WeightNaming::Flat => "visual",
            _ => "model.visual",
        };
        let (wide, patch) = (config.hidden_size, config.patch_size);
        layout.component(Component::Vision);
        let shape = [wide, 3, 2, patch, patch];
        let patches =
            LinearParams::patches(layout, &format!("{prefix}.patch_embed.proj"), &shape, false);
        let blocks = (0..config.depth).map(|index| {
            let shape = QwenBlockShape {
                name: &format!("{prefix}.blocks.{index}"),
                wide,
                inner: config.intermediate_size,
                norm: NormKind::Rms,
                feed: FeedNames::Gated(["mlp.gate_proj", "mlp.up_proj"], "mlp.down_proj"),
            };
            QwenBlockParams::declare(layout, shape)
        });
        let blocks = blocks.collect();
        layout.component(Component::Projector);
        let shape = MergerShape {
            name: &format!("{prefix}.merger"),
            parts: ["ln_q", "mlp.0", "mlp.2"],
            norm: NormKind::Rms,
            normed: Normed::Patch,
            wide,
            joined: config.joined(),
            out: tower.out,
        };
        let merger = MergerParams::declare(layout, shape);
        layout.component(Component::Decoder);
        Self {
            patches,
            blocks,
            merger,
        }
    }

    pub(super) fn bind(self, params: &ParamTable, config: &VisionConfig) -> Qwen25Tower {
        let VisionNetwork::Qwen25Vl {
            window,
            whole,
            activation,
        } = &config.network
        else {
            unreachable!("bound to its own network")
        };
        let blocks = self.blocks.into_iter();
        Qwen25Tower {
            patches: self.patches.bind(params),
            blocks: blocks
                .map(|block| block.bind(params, config.num_heads, *activation))
                .collect(),
            merger: self.merger.bind(params),
            head_dim: config.head_dim(),
            merge: config.merge,
            window: window / config.merge / config.patch_size,
            whole: whole.clone(),
        }
    }
}

/// The order in which windows put the merged patches of all pictures, and the rows of each
/// window. Windows start at the picture's top left; those at its edges are smaller.
fn windows(grids: &[(i64, i64)], merge: i64, side: i64) -> (Vec<i64>, Vec<i64>) {
    let (mut order, mut lengths, mut start) = (Vec::new(), Vec::new(), 0);
    for (rows, columns) in grids {
        let (rows, columns) = (rows / merge, columns / merge);
        let across = |size: i64| (size + side - 1) / side;
        for (window_row, window_column) in pairs(across(rows), across(columns)) {
            let before = order.len();
            let inside = pairs(side, side)
                .map(|(row, column)| (window_row * side + row, window_column * side + column))
                .filter(|(row, column)| *row < rows && *column < columns);
            order.extend(inside.map(|(row, column)| start + row * columns + column));
            lengths.push((order.len() - before) as i64 * merge * merge);
        }
        start += rows * columns;
    }
    (order, lengths)
}

impl Qwen25Tower {
    /// The last state alone, `[n, D]`, in merge order.
    pub(super) fn run(&self, pixels: &Pixels, pass: AdapterPass) -> Vec<Tensor> {
        let x = self.patches.forward(&pixels.data, pass);
        let (kind, device) = (x.kind(), x.device());
        let (order, within) = windows(&pixels.grids, self.merge, self.window);
        let runs = |lengths| Runs::new(lengths, self.head_dim, (kind, device));
        let (within, across) = (runs(within), runs(patch_counts(&pixels.grids)));
        let order = Tensor::from_slice(&order).to_device(device);
        let unit = self.merge * self.merge;
        let moved = |x: &Tensor, order: &Tensor| {
            let size = x.size();
            x.view([size[0] / unit, unit, size[1]])
                .index_select(0, order)
                .view([size[0], size[1]])
        };
        let positions = patch_positions(&pixels.grids, self.merge);
        let tables = patch_tables(&positions, self.head_dim, (kind, device));
        let tables = RotaryTables {
            cos: moved(&tables.cos, &order),
            sin: moved(&tables.sin, &order),
        };
        let mut x = moved(&x, &order);
        for (index, block) in self.blocks.iter().enumerate() {
            let runs = match self.whole.contains(&(index as i64)) {
                true => &across,
                false => &within,
            };
            x = block.forward(&x, (&tables, runs), pass);
        }
        vec![moved(&x, &order.argsort(0, false))]
    }

    /// Behind the tower.
    pub(super) fn project(&self, states: &[Tensor], pass: AdapterPass) -> Features {
        Features {
            main: self.merger.forward(&states[0], pass),
            deep: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn windows_at_the_edges_are_smaller_and_none_is_empty() {
        let (order, lengths) = windows(&[(4, 6), (2, 2)], 2, 2);
        assert_eq!(order, [0, 1, 3, 4, 2, 5, 6]);
        assert_eq!(lengths, [16, 8, 4]);
    }
}
