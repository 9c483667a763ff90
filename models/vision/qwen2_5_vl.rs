//! Qwen2.5-VL's vision tower: rotation by row and column, attention within windows except in a few
//! blocks that see the whole picture; a merger of patches behind it.
//!
//! Follows transformers' `Qwen2_5_VisionTransformerPretrainedModel`.

use tch::Tensor;

use super::config::{Names, VisionConfig, VisionNetwork};
use super::layers::{Activation, Linear, LinearLeaves, Norm, NormKind, NormLeaves};
use super::qwen::{Attention, AttentionLeaves, blocks, places, tables};
use super::types::Pixels;
use crate::input::Features;
use crate::params::{Layout, ParamTable, Part};

const EPS: f64 = 1e-6;

struct BlockLeaves {
    norms: [NormLeaves; 2],
    attention: AttentionLeaves,
    gate_up: LinearLeaves,
    down: LinearLeaves,
}

struct Block {
    norms: [Norm; 2],
    attention: Attention,
    gate_up: Linear,
    down: Linear,
}

/// The tower's leaves.
pub(crate) struct Leaves {
    patches: LinearLeaves,
    blocks: Vec<BlockLeaves>,
    norm: NormLeaves,
    merger: [LinearLeaves; 2],
}

/// The tower.
pub(super) struct Tower {
    config: VisionConfig,
    patches: Linear,
    blocks: Vec<Block>,
    norm: Norm,
    merger: [Linear; 2],
}

impl Leaves {
    pub(super) fn declare(
        layout: &mut Layout,
        config: &VisionConfig,
        (names, out): (Names, i64),
    ) -> Self {
        let prefix = match names {
            Names::Flat => "visual",
            _ => "model.visual",
        };
        let (wide, inner, patch) = (
            config.hidden_size,
            config.intermediate_size,
            config.patch_size,
        );
        layout.part(Part::Vision);
        let shape = [wide, 3, 2, patch, patch];
        let patches =
            LinearLeaves::patches(layout, &format!("{prefix}.patch_embed.proj"), &shape, false);
        let blocks = (0..config.depth).map(|index| {
            let name = format!("{prefix}.blocks.{index}");
            let norm = |layout: &mut Layout, part: &str| {
                NormLeaves::declare(layout, &format!("{name}.{part}"), wide, NormKind::Rms)
            };
            let pair = ["gate_proj", "up_proj"].map(|part| (format!("{name}.mlp.{part}"), inner));
            BlockLeaves {
                norms: [norm(layout, "norm1"), norm(layout, "norm2")],
                attention: AttentionLeaves::declare(layout, &format!("{name}.attn"), wide),
                gate_up: LinearLeaves::stacked(layout, &pair, wide, true),
                down: LinearLeaves::declare(
                    layout,
                    &format!("{name}.mlp.down_proj"),
                    (wide, inner),
                ),
            }
        });
        let blocks = blocks.collect();
        layout.part(Part::Projector);
        let joined = wide * config.merge * config.merge;
        let name = format!("{prefix}.merger");
        let norm = NormLeaves::declare(layout, &format!("{name}.ln_q"), wide, NormKind::Rms);
        let merger = [
            LinearLeaves::declare(layout, &format!("{name}.mlp.0"), (joined, joined)),
            LinearLeaves::declare(layout, &format!("{name}.mlp.2"), (out, joined)),
        ];
        layout.part(Part::Decoder);
        Self {
            patches,
            blocks,
            norm,
            merger,
        }
    }

    pub(super) fn bind(self, params: &ParamTable, config: &VisionConfig) -> Tower {
        let block = |leaves: BlockLeaves| Block {
            norms: leaves.norms.map(|norm| norm.bind(params, EPS)),
            attention: leaves.attention.bind(params, config.num_heads),
            gate_up: leaves.gate_up.bind(params),
            down: leaves.down.bind(params),
        };
        Tower {
            config: config.clone(),
            patches: self.patches.bind(params),
            blocks: self.blocks.into_iter().map(block).collect(),
            norm: self.norm.bind(params, EPS),
            merger: self.merger.map(|linear| linear.bind(params)),
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
        for (window_row, window_column) in blocks(across(rows), across(columns)) {
            let before = order.len();
            let inside = blocks(side, side)
                .map(|(row, column)| (window_row * side + row, window_column * side + column))
                .filter(|(row, column)| *row < rows && *column < columns);
            order.extend(inside.map(|(row, column)| start + row * columns + column));
            lengths.push((order.len() - before) as i64 * merge * merge);
        }
        start += rows * columns;
    }
    (order, lengths)
}

impl Tower {
    /// The last state alone, `[n, D]`, in merge order.
    pub(super) fn run(&self, pixels: &Pixels) -> Vec<Tensor> {
        let VisionNetwork::Qwen25Vl {
            window,
            whole,
            activation,
        } = &self.config.network
        else {
            unreachable!("bound to its own network")
        };
        let (merge, patch) = (self.config.merge, self.config.patch_size);
        let x = self.patches.apply(&pixels.data);
        let (kind, device) = (x.kind(), x.device());
        let (order, within) = windows(&pixels.grids, merge, window / merge / patch);
        let across: Vec<i64> = pixels
            .grids
            .iter()
            .map(|(rows, columns)| rows * columns)
            .collect();
        let order = Tensor::from_slice(&order).to_device(device);
        let unit = merge * merge;
        let moved = |x: &Tensor, order: &Tensor| {
            let size = x.size();
            x.view([size[0] / unit, unit, size[1]])
                .index_select(0, order)
                .view([size[0], size[1]])
        };
        let head_dim = self.config.hidden_size / self.config.num_heads;
        let places = places(&pixels.grids, merge);
        let (cos, sin) = tables(&places, head_dim, (kind, device));
        let tables = (moved(&cos, &order), moved(&sin, &order));
        let mut x = moved(&x, &order);
        for (index, block) in self.blocks.iter().enumerate() {
            let lengths = match whole.contains(&(index as i64)) {
                true => &across,
                false => &within,
            };
            x = block.apply(&x, &tables, (lengths, *activation));
        }
        vec![moved(&x, &order.argsort(0, false))]
    }

    /// Behind the tower.
    pub(super) fn project(&self, states: &[Tensor]) -> Features {
        let joined = self.config.hidden_size * self.config.merge * self.config.merge;
        let x = self.norm.apply(&states[0]).view([-1, joined]);
        Features {
            main: self.merger[1].apply(&self.merger[0].apply(&x).gelu("none")),
            deep: Vec::new(),
        }
    }
}

impl Block {
    fn apply(
        &self,
        x: &Tensor,
        tables: &(Tensor, Tensor),
        (lengths, activation): (&[i64], Activation),
    ) -> Tensor {
        let x = x + self
            .attention
            .apply(&self.norms[0].apply(x), tables, lengths);
        let halves = self.gate_up.apply(&self.norms[1].apply(&x)).chunk(2, -1);
        &x + self
            .down
            .apply(&(activation.apply(&halves[0]) * &halves[1]))
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
