//! Qwen3-VL's vision tower: learned positions interpolated to each picture's grid, rotation by row
//! and column, DeepStack taps; a merger of patches behind the tower and behind each tap.
//!
//! Follows transformers' `Qwen3VLVisionModel`.

use tch::{Kind, Tensor};

use super::config::{Names, VisionConfig, VisionNetwork};
use super::layers::{Activation, Linear, LinearLeaves, Norm, NormKind, NormLeaves};
use super::qwen::{Attention, AttentionLeaves, places, tables};
use super::types::Pixels;
use crate::input::Features;
use crate::params::{Layout, ParamTable, Part};

const EPS: f64 = 1e-6;

struct BlockLeaves {
    norms: [NormLeaves; 2],
    attention: AttentionLeaves,
    feed: [LinearLeaves; 2],
}

struct Block {
    norms: [Norm; 2],
    attention: Attention,
    feed: [Linear; 2],
}

struct MergerLeaves {
    norm: NormLeaves,
    feed: [LinearLeaves; 2],
}

/// Joins the patches of a square into one row of the decoder's width.
struct Merger {
    norm: Norm,
    feed: [Linear; 2],
    /// Whether the norm is over the joined patches.
    joined: bool,
}

/// The tower's leaves.
pub(crate) struct Leaves {
    patches: LinearLeaves,
    positions: usize,
    blocks: Vec<BlockLeaves>,
    merger: MergerLeaves,
    taps: Vec<MergerLeaves>,
}

/// The tower.
pub(super) struct Tower {
    config: VisionConfig,
    patches: Linear,
    /// `[side * side, D]`
    positions: Tensor,
    blocks: Vec<Block>,
    merger: Merger,
    taps: Vec<Merger>,
}

impl Leaves {
    pub(super) fn declare(
        layout: &mut Layout,
        config: &VisionConfig,
        (names, out): (Names, i64),
    ) -> Self {
        let VisionNetwork::Qwen3Vl {
            positions, taps, ..
        } = &config.network
        else {
            unreachable!("declared for its own network")
        };
        let prefix = match names {
            Names::Flat => "visual",
            _ => "model.visual",
        };
        let (wide, patch) = (config.hidden_size, config.patch_size);
        layout.part(Part::Vision);
        let shape = [wide, 3, 2, patch, patch];
        let patches =
            LinearLeaves::patches(layout, &format!("{prefix}.patch_embed.proj"), &shape, true);
        let table = layout.one(format!("{prefix}.pos_embed.weight"), &[*positions, wide]);
        let blocks = (0..config.depth).map(|index| {
            let name = format!("{prefix}.blocks.{index}");
            let norm = |layout: &mut Layout, part: &str| {
                NormLeaves::declare(layout, &format!("{name}.{part}"), wide, NormKind::Layer)
            };
            let inner = config.intermediate_size;
            BlockLeaves {
                norms: [norm(layout, "norm1"), norm(layout, "norm2")],
                attention: AttentionLeaves::declare(layout, &format!("{name}.attn"), wide),
                feed: [
                    LinearLeaves::declare(layout, &format!("{name}.mlp.linear_fc1"), (inner, wide)),
                    LinearLeaves::declare(layout, &format!("{name}.mlp.linear_fc2"), (wide, inner)),
                ],
            }
        });
        let blocks = blocks.collect();
        layout.part(Part::Projector);
        let joined = wide * config.merge * config.merge;
        let mut merger = |name: String, normed: i64| MergerLeaves {
            norm: NormLeaves::declare(layout, &format!("{name}.norm"), normed, NormKind::Layer),
            feed: [
                LinearLeaves::declare(layout, &format!("{name}.linear_fc1"), (joined, joined)),
                LinearLeaves::declare(layout, &format!("{name}.linear_fc2"), (out, joined)),
            ],
        };
        let main = merger(format!("{prefix}.merger"), wide);
        let taps = (0..taps.len())
            .map(|index| merger(format!("{prefix}.deepstack_merger_list.{index}"), joined))
            .collect();
        layout.part(Part::Decoder);
        Self {
            patches,
            positions: table,
            blocks,
            merger: main,
            taps,
        }
    }

    pub(super) fn bind(self, params: &ParamTable, config: &VisionConfig) -> Tower {
        let block = |leaves: BlockLeaves| Block {
            norms: leaves.norms.map(|norm| norm.bind(params, EPS)),
            attention: leaves.attention.bind(params, config.num_heads),
            feed: leaves.feed.map(|linear| linear.bind(params)),
        };
        let merger = |leaves: MergerLeaves, joined| Merger {
            norm: leaves.norm.bind(params, EPS),
            feed: leaves.feed.map(|linear| linear.bind(params)),
            joined,
        };
        Tower {
            config: config.clone(),
            patches: self.patches.bind(params),
            positions: params.tensor(self.positions),
            blocks: self.blocks.into_iter().map(block).collect(),
            merger: merger(self.merger, false),
            taps: self.taps.into_iter().map(|tap| merger(tap, true)).collect(),
        }
    }
}

impl Merger {
    /// `x [n, D]`, merged patches next to each other, to `[n / merge^2, out]`.
    fn apply(&self, x: &Tensor, joined: i64) -> Tensor {
        let x = match self.joined {
            true => self.norm.apply(&x.view([-1, joined])),
            false => self.norm.apply(x).view([-1, joined]),
        };
        self.feed[1].apply(&self.feed[0].apply(&x).gelu("none"))
    }
}

impl Tower {
    /// The states at the taps, then the last, `[n, D]` each.
    pub(super) fn run(&self, pixels: &Pixels) -> Vec<Tensor> {
        let VisionNetwork::Qwen3Vl {
            taps, activation, ..
        } = &self.config.network
        else {
            unreachable!("bound to its own network")
        };
        let (kind, device) = (self.positions.kind(), self.positions.device());
        let places = places(&pixels.grids, self.config.merge);
        let lengths: Vec<i64> = pixels
            .grids
            .iter()
            .map(|(rows, columns)| rows * columns)
            .collect();
        let head_dim = self.config.hidden_size / self.config.num_heads;
        let tables = tables(&places, head_dim, (kind, device));
        let mut x = self.patches.apply(&pixels.data) + self.interpolated(&places, &pixels.grids);
        let mut states = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.apply(&x, &tables, (&lengths, *activation));
            if taps.contains(&(index as i64)) {
                states.push(x.shallow_clone());
            }
        }
        states.push(x);
        states
    }

    /// Behind the tower and behind each tap.
    pub(super) fn project(&self, states: &[Tensor]) -> Features {
        let joined = self.config.hidden_size * self.config.merge * self.config.merge;
        let (last, tapped) = states.split_last().expect("the tower's output at least");
        Features {
            main: self.merger.apply(last, joined),
            deep: self
                .taps
                .iter()
                .zip(tapped)
                .map(|(merger, state)| merger.apply(state, joined))
                .collect(),
        }
    }

    /// The learned positions at each patch, `[n, D]`: bilinear between the four nearest, corners
    /// on corners; weights in float32 as in the reference.
    fn interpolated(&self, places: &[[i64; 2]], grids: &[(i64, i64)]) -> Tensor {
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
        for ([row, column], (height, width)) in places.iter().zip(sizes) {
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
        let inner = activation.apply(&self.feed[0].apply(&self.norms[1].apply(&x)));
        &x + self.feed[1].apply(&inner)
    }
}
