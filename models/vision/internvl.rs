//! InternVL3's vision side: InternViT over tiles of one size, pixel shuffle, a small projector.
//!
//! Follows transformers' `InternVLVisionModel`; the layout as first published holds the same
//! numbers under other names, q, k and v in one matrix.

use tch::Tensor;

use super::config::{InternVit, TowerBefore, VisionConfig, VisionNetwork, WeightNaming};
use super::layers::{Norm, NormKind, NormParams, run_attention};
use super::types::Pixels;
use crate::input::Features;
use crate::layers::Activation;
use crate::linear::{LinearParams, Projection};
use crate::lora::AdapterPass;
use crate::packed_attention::Runs;
use crate::param_layout::ParamLayout;
use crate::params::{Component, ParamId, ParamTable};

/// Epsilon of the projector's norm.
const EPS: f64 = 1e-5;

struct InternBlockParams {
    norms: [NormParams; 2],
    qkv: LinearParams,
    head_norms: Option<[NormParams; 2]>,
    out: LinearParams,
    feed: [LinearParams; 2],
    scales: [ParamId; 2],
}

struct InternBlock {
    norms: [Norm; 2],
    /// q, k and v stacked.
    qkv: Projection,
    head_norms: Option<[Norm; 2]>,
    out: Projection,
    feed: [Projection; 2],
    /// `[D]` each
    scales: [Tensor; 2],
    heads: i64,
    activation: Activation,
}

/// The tower's parameters, before the buffers exist.
pub(crate) struct InternParams {
    class: ParamId,
    positions: ParamId,
    patches: LinearParams,
    blocks: Vec<InternBlockParams>,
    last: Option<NormParams>,
    projector_norm: NormParams,
    projector: [LinearParams; 2],
}

/// The tower.
pub(super) struct InternTower {
    /// `[1, 1, D]`
    class: Tensor,
    /// `[1, 1 + patches, D]`
    positions: Tensor,
    patches: Projection,
    blocks: Vec<InternBlock>,
    last: Option<Norm>,
    projector: Projector,
    patch_size: i64,
    merge: i64,
}

struct Projector {
    norm: Norm,
    maps: [Projection; 2],
}

/// What a layout calls the parts.
struct TensorNames {
    tower: &'static str,
    embeddings: [&'static str; 3],
    layers: &'static str,
    norms: [&'static str; 2],
    attention: &'static str,
    qkv: &'static [&'static str],
    out: &'static str,
    scales: [&'static str; 2],
    projector: [&'static str; 3],
}

const CHAT: TensorNames = TensorNames {
    tower: "vision_model",
    embeddings: ["class_embedding", "position_embedding", "patch_embedding"],
    layers: "encoder.layers",
    norms: ["norm1", "norm2"],
    attention: "attn",
    qkv: &["qkv"],
    out: "proj",
    scales: ["ls1", "ls2"],
    projector: ["mlp1.0", "mlp1.1", "mlp1.3"],
};

const NATIVE: TensorNames = TensorNames {
    tower: "model.vision_tower",
    embeddings: [
        "cls_token",
        "position_embeddings",
        "patch_embeddings.projection",
    ],
    layers: "encoder.layer",
    norms: ["layernorm_before", "layernorm_after"],
    attention: "attention",
    qkv: &["q_proj", "k_proj", "v_proj"],
    out: "projection_layer",
    scales: ["lambda_1", "lambda_2"],
    projector: [
        "model.multi_modal_projector.layer_norm",
        "model.multi_modal_projector.linear_1",
        "model.multi_modal_projector.linear_2",
    ],
};

const SPLIT: TensorNames = TensorNames {
    tower: "vision_tower",
    projector: [
        "multi_modal_projector.layer_norm",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
    ],
    ..NATIVE
};

impl InternParams {
    pub(super) fn declare(
        layout: &mut ParamLayout,
        tower: TowerBefore,
        intern: &InternVit,
    ) -> Self {
        let (config, out) = (tower.config, tower.out);
        let parts = match tower.names {
            WeightNaming::Chat => CHAT,
            WeightNaming::Split => SPLIT,
            _ => NATIVE,
        };
        let wide = config.hidden_size;
        layout.component(Component::Vision);
        let embeddings = format!("{}.embeddings", parts.tower);
        let [class, positions, patches] =
            parts.embeddings.map(|part| format!("{embeddings}.{part}"));
        let per_tile = (intern.image_size / config.patch_size).pow(2);
        let class = layout.one(class, &[1, 1, wide]);
        let positions = layout.one(positions, &[1, 1 + per_tile, wide]);
        let shape = [wide, 3, config.patch_size, config.patch_size];
        let patches = LinearParams::patches(layout, &patches, &shape, true);
        let blocks = (0..config.depth)
            .map(|index| {
                let name = format!("{}.{}.{index}", parts.tower, parts.layers);
                InternBlockParams::declare(layout, config, intern, &parts, &name)
            })
            .collect();
        let last = intern.final_norm.then(|| {
            NormParams::declare(
                layout,
                &format!("{}.layernorm", parts.tower),
                wide,
                NormKind::Layer,
            )
        });
        layout.component(Component::Projector);
        let joined = config.joined();
        let [norm, first, second] = parts.projector;
        let projector_norm = NormParams::declare(layout, norm, joined, NormKind::Layer);
        let projector = [
            LinearParams::declare(layout, first, [out, joined]),
            LinearParams::declare(layout, second, [out, out]),
        ];
        layout.component(Component::Decoder);
        Self {
            class,
            positions,
            patches,
            blocks,
            last,
            projector_norm,
            projector,
        }
    }

    pub(super) fn bind(self, params: &ParamTable, config: &VisionConfig) -> InternTower {
        let VisionNetwork::InternVl(intern) = &config.network else {
            unreachable!("bound to its own network")
        };
        let eps = intern.norm_eps;
        let block = |block: InternBlockParams| InternBlock {
            norms: block.norms.map(|norm| norm.bind(params, eps)),
            qkv: block.qkv.bind(params),
            // The norms over heads have an epsilon of their own in both layouts.
            head_norms: block
                .head_norms
                .map(|norms| norms.map(|norm| norm.bind(params, 1e-6))),
            out: block.out.bind(params),
            feed: block.feed.map(|linear| linear.bind(params)),
            scales: block.scales.map(|scale| params.tensor(scale)),
            heads: config.num_heads,
            activation: intern.activation,
        };
        InternTower {
            class: params.tensor(self.class),
            positions: params.tensor(self.positions),
            patches: self.patches.bind(params),
            blocks: self.blocks.into_iter().map(block).collect(),
            last: self.last.map(|norm| norm.bind(params, eps)),
            projector: Projector {
                norm: self.projector_norm.bind(params, EPS),
                maps: self.projector.map(|linear| linear.bind(params)),
            },
            patch_size: config.patch_size,
            merge: config.merge,
        }
    }
}

impl InternBlockParams {
    fn declare(
        layout: &mut ParamLayout,
        config: &VisionConfig,
        intern: &InternVit,
        parts: &TensorNames,
        name: &str,
    ) -> Self {
        let (wide, inner) = (config.hidden_size, config.intermediate_size);
        let attention = format!("{name}.{}", parts.attention);
        let norms = parts
            .norms
            .map(|part| NormParams::declare(layout, &format!("{name}.{part}"), wide, intern.norm));
        let rows = 3 * wide / parts.qkv.len() as i64;
        let stacked: Vec<_> = parts
            .qkv
            .iter()
            .map(|part| (format!("{attention}.{part}"), rows))
            .collect();
        let qkv = LinearParams::stacked(layout, &stacked, wide, intern.qkv_bias);
        let head_norms = intern.qk_norm.then(|| {
            ["q_norm", "k_norm"].map(|part| {
                NormParams::declare(layout, &format!("{attention}.{part}"), wide, NormKind::Rms)
            })
        });
        let out =
            LinearParams::declare(layout, &format!("{attention}.{}", parts.out), [wide, wide]);
        let feed = [
            LinearParams::declare(layout, &format!("{name}.mlp.fc1"), [inner, wide]),
            LinearParams::declare(layout, &format!("{name}.mlp.fc2"), [wide, inner]),
        ];
        let scales = parts
            .scales
            .map(|part| layout.one(format!("{name}.{part}"), &[wide]));
        Self {
            norms,
            qkv,
            head_norms,
            out,
            feed,
            scales,
        }
    }
}

impl InternTower {
    /// The last state alone, `[tiles, patches, D]`, the class row left out.
    pub(super) fn run(&self, pixels: &Pixels, pass: AdapterPass) -> Vec<Tensor> {
        let (across, patch) = (self.across(), self.patch_size);
        let tiles = pixels.data.size()[0];
        let patches = pixels
            .data
            .view([tiles, 3, across, patch, across, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([tiles, across * across, 3 * patch * patch]);
        let class = self.class.expand([tiles, 1, -1], false);
        let x = Tensor::cat(&[&class, &self.patches.forward(&patches, pass)], 1) + &self.positions;
        let (rows, wide) = (x.size()[1], x.size()[2]);
        let mut x = x.view([tiles * rows, wide]);
        let heads = self.blocks.first().map_or(1, |block| block.heads);
        let place = (x.kind(), x.device());
        let runs = Runs::new(vec![rows; tiles as usize], wide / heads, place);
        for block in &self.blocks {
            x = block.forward(&x, &runs, pass);
        }
        let x = match &self.last {
            None => x,
            Some(norm) => norm.forward(&x),
        };
        vec![x.view([tiles, rows, wide]).narrow(1, 1, rows - 1)]
    }

    /// Squares of patches joined by pixel shuffle, then the projector.
    pub(super) fn project(&self, states: &[Tensor], pass: AdapterPass) -> Features {
        let state = &states[0];
        let (tiles, wide) = (state.size()[0], state.size()[2]);
        let (merge, side) = (self.merge, self.across() / self.merge);
        // A square's patches row by row, as two shuffles, one for each side, leave them.
        let joined = state
            .reshape([tiles, side, merge, side, merge, wide])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([tiles * side * side, merge * merge * wide]);
        let [first, second] = &self.projector.maps;
        let x = first.forward(&self.projector.norm.forward(&joined), pass);
        Features {
            main: second.forward(&x.gelu("none"), pass),
            deep: Vec::new(),
        }
    }

    /// Patches along a side of a tile.
    fn across(&self) -> i64 {
        (self.positions.size()[1] - 1).isqrt()
    }
}

impl InternBlock {
    fn forward(&self, x: &Tensor, runs: &Runs, pass: AdapterPass) -> Tensor {
        let rows = x.size()[0];
        let qkv = self
            .qkv
            .forward(&self.norms[0].forward(x), pass)
            .chunk(3, -1);
        let heads = |x: &Tensor| x.reshape([rows, self.heads, -1]);
        let (q, k) = match &self.head_norms {
            None => (heads(&qkv[0]), heads(&qkv[1])),
            Some([q, k]) => (heads(&q.forward(&qkv[0])), heads(&k.forward(&qkv[1]))),
        };
        let mixed = run_attention(&q, &k, &heads(&qkv[2]), runs);
        let x = self.out.forward(&mixed, pass) * &self.scales[0] + x;
        let inner = self.feed[0].forward(&self.norms[1].forward(&x), pass);
        let fed = self.feed[1].forward(&self.activation.apply(&inner), pass);
        fed * &self.scales[1] + x
    }
}
