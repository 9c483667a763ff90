//! Qwen3-VL's vision tower: learned positions interpolated to each picture's grid, rotation by row
//! and column, DeepStack taps; a merger of patches behind the tower and behind each tap.
//!
//! Follows transformers' `Qwen3VLVisionModel`.

use tch::{Kind, Tensor};

use super::config::{TowerBefore, VisionConfig, VisionNetwork, WeightNaming};
use super::layers::NormKind;
use super::qwen::{
    FeedNames, Merger, MergerParams, MergerShape, Normed, QwenBlock, QwenBlockParams,
    QwenBlockShape, patch_counts, patch_positions, patch_tables,
};
use super::types::Pixels;
use crate::input::Features;
use crate::linear::{LinearParams, Projection};
use crate::lora::AdapterPass;
use crate::packed_attention::Runs;
use crate::param_layout::ParamLayout;
use crate::params::{Component, ParamId, ParamTable};

/// The tower's parameters, before the buffers exist.
pub(crate) struct Qwen3Params {
    patches: LinearParams,
    positions: ParamId,
    blocks: Vec<QwenBlockParams>,
    merger: MergerParams,
    taps: Vec<MergerParams>,
}

/// The tower.
pub(super) struct Qwen3Tower {
    patches: Projection,
    /// `[side * side, D]`
    positions: Tensor,
    blocks: Vec<QwenBlock>,
    merger: Merger,
    /// The mergers of DeepStack, and the blocks they are behind.
    taps: Vec<(i64, Merger)>,
    head_dim: i64,
    merge: i64,
}

impl Qwen3Params {
    pub(super) fn declare(layout: &mut ParamLayout, tower: TowerBefore) -> Self {
        let config = tower.config;
        let VisionNetwork::Qwen3Vl {
            positions, taps, ..
        } = &config.network
        else {
            unreachable!("declared for its own network")
        };
        let prefix = match tower.names {
            WeightNaming::Flat => "visual",
            _ => "model.visual",
        };
        let (wide, patch) = (config.hidden_size, config.patch_size);
        layout.component(Component::Vision);
        let shape = [wide, 3, 2, patch, patch];
        let patches =
            LinearParams::patches(layout, &format!("{prefix}.patch_embed.proj"), &shape, true);
        let positions = layout.one(format!("{prefix}.pos_embed.weight"), &[*positions, wide]);
        let blocks = (0..config.depth).map(|index| {
            let shape = QwenBlockShape {
                name: &format!("{prefix}.blocks.{index}"),
                wide,
                inner: config.intermediate_size,
                norm: NormKind::Layer,
                feed: FeedNames::Plain(["mlp.linear_fc1", "mlp.linear_fc2"]),
            };
            QwenBlockParams::declare(layout, shape)
        });
        let blocks = blocks.collect();
        layout.component(Component::Projector);
        let mut merger = |name: String, normed: Normed| {
            let shape = MergerShape {
                name: &name,
                parts: ["norm", "linear_fc1", "linear_fc2"],
                norm: NormKind::Layer,
                normed,
                wide,
                joined: config.joined(),
                out: tower.out,
            };
            MergerParams::declare(layout, shape)
        };
        let main = merger(format!("{prefix}.merger"), Normed::Patch);
        let list = format!("{prefix}.deepstack_merger_list");
        let taps = (0..taps.len())
            .map(|index| merger(format!("{list}.{index}"), Normed::Joined))
            .collect();
        layout.component(Component::Decoder);
        Self {
            patches,
            positions,
            blocks,
            merger: main,
            taps,
        }
    }

    pub(super) fn bind(self, params: &ParamTable, config: &VisionConfig) -> Qwen3Tower {
        let VisionNetwork::Qwen3Vl {
            taps, activation, ..
        } = &config.network
        else {
            unreachable!("bound to its own network")
        };
        let (blocks, mergers) = (self.blocks.into_iter(), self.taps.into_iter());
        Qwen3Tower {
            patches: self.patches.bind(params),
            positions: params.tensor(self.positions),
            blocks: blocks
                .map(|block| block.bind(params, config.num_heads, *activation))
                .collect(),
            merger: self.merger.bind(params),
            taps: mergers
                .zip(taps)
                .map(|(merger, block)| (*block, merger.bind(params)))
                .collect(),
            head_dim: config.head_dim(),
            merge: config.merge,
        }
    }
}

impl Qwen3Tower {
    /// The states at the taps, then the last, `[n, D]` each.
    pub(super) fn run(&self, pixels: &Pixels, pass: AdapterPass) -> Vec<Tensor> {
        let place = (self.positions.kind(), self.positions.device());
        let positions = patch_positions(&pixels.grids, self.merge);
        let runs = Runs::new(patch_counts(&pixels.grids), self.head_dim, place);
        let tables = patch_tables(&positions, self.head_dim, place);
        let mut x =
            self.patches.forward(&pixels.data, pass) + self.interpolated(&positions, &pixels.grids);
        let mut states = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, (&tables, &runs), pass);
            if self.taps.iter().any(|(tapped, _)| *tapped == index as i64) {
                states.push(x.shallow_clone());
            }
        }
        states.push(x);
        states
    }

    /// Behind the tower and behind each tap.
    pub(super) fn project(&self, states: &[Tensor], pass: AdapterPass) -> Features {
        let (last, tapped) = states.split_last().expect("the tower's output at least");
        Features {
            main: self.merger.forward(last, pass),
            deep: self
                .taps
                .iter()
                .zip(tapped)
                .map(|((_, merger), state)| merger.forward(state, pass))
                .collect(),
        }
    }

    /// The learned positions at each patch, `[n, D]`: bilinear between the four nearest, corners
    /// on corners; weights in float32 as in the reference.
    fn interpolated(&self, patches: &[[i64; 2]], grids: &[(i64, i64)]) -> Tensor {
        let side = self.positions.size()[0].isqrt();
        let axis = |at: i64, size: i64| -> [(i64, f32); 2] {
            let source = at as f32 * (side - 1) as f32 / (size - 1).max(1) as f32;
            let floor = source.floor();
            [0, 1].map(|step| {
                let weight = (1.0 - (source - floor - step as f32).abs()).max(0.0);
                ((floor as i64 + step).clamp(0, side - 1), weight)
            })
        };
        let sizes = grids
            .iter()
            .flat_map(|grid| std::iter::repeat_n(*grid, (grid.0 * grid.1) as usize));
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        for ([row, column], (height, width)) in patches.iter().zip(sizes) {
            for (row, by_row) in axis(*row, height) {
                for (column, by_column) in axis(*column, width) {
                    rows.push(row * side + column);
                    weights.push(by_row * by_column);
                }
            }
        }
        let device = self.positions.device();
        let rows = Tensor::from_slice(&rows).to_device(device).view([-1, 4]);
        let weights = Tensor::from_slice(&weights)
            .to_device(device)
            .to_kind(match self.positions.kind() {
                Kind::Double => Kind::Double,
                _ => Kind::Float,
            })
            .view([-1, 4, 1]);
        let taken = Tensor::embedding(&self.positions, &rows, -1, false, false);
        (taken * weights)
            .sum_dim_intlist(1, false, None)
            .to_kind(self.positions.kind())
    }
}
