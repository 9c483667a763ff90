//! InternVL3's vision side: InternViT over tiles of one size, pixel shuffle, a small projector.
//!
//! Follows transformers' `InternVLVisionModel`; the layout as first published holds the same
//! numbers under other names, q, k and v in one matrix.

use tch::Tensor;

use super::config::{InternVit, Names, VisionConfig, VisionNetwork};
use super::layers::{Linear, LinearLeaves, Norm, NormKind, NormLeaves, run_attention};
use super::types::Pixels;
use crate::input::Features;
use crate::params::{Layout, ParamTable, Part};

/// Epsilon of the projector's norm.
const EPS: f64 = 1e-5;

struct BlockLeaves {
    norms: [NormLeaves; 2],
    qkv: LinearLeaves,
    head_norms: Option<[NormLeaves; 2]>,
    out: LinearLeaves,
    feed: [LinearLeaves; 2],
    scales: [usize; 2],
}

struct Block {
    norms: [Norm; 2],
    /// q, k and v stacked.
    qkv: Linear,
    head_norms: Option<[Norm; 2]>,
    out: Linear,
    feed: [Linear; 2],
    /// `[D]` each
    scales: [Tensor; 2],
}

/// The tower's leaves.
pub(crate) struct Leaves {
    class: usize,
    positions: usize,
    patches: LinearLeaves,
    blocks: Vec<BlockLeaves>,
    last: Option<NormLeaves>,
    projector_norm: NormLeaves,
    projector: [LinearLeaves; 2],
}

/// The tower.
pub(super) struct Tower {
    config: VisionConfig,
    /// `[1, 1, D]`
    class: Tensor,
    /// `[1, 1 + patches, D]`
    positions: Tensor,
    patches: Linear,
    blocks: Vec<Block>,
    last: Option<Norm>,
    projector_norm: Norm,
    projector: [Linear; 2],
}

/// What a layout calls the parts.
struct Parts {
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

const CHAT: Parts = Parts {
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

const NATIVE: Parts = Parts {
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

const SPLIT: Parts = Parts {
    tower: "vision_tower",
    projector: [
        "multi_modal_projector.layer_norm",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
    ],
    ..NATIVE
};

impl Leaves {
    pub(super) fn declare(
        layout: &mut Layout,
        (config, intern): (&VisionConfig, &InternVit),
        (names, out): (Names, i64),
    ) -> Self {
        let parts = match names {
            Names::Chat => CHAT,
            Names::Split => SPLIT,
            _ => NATIVE,
        };
        let wide = config.hidden_size;
        layout.part(Part::Vision);
        let embeddings = format!("{}.embeddings", parts.tower);
        let [class, positions, patches] =
            parts.embeddings.map(|part| format!("{embeddings}.{part}"));
        let per_tile = (intern.image_size / config.patch_size).pow(2);
        let class = layout.one(class, &[1, 1, wide]);
        let positions = layout.one(positions, &[1, 1 + per_tile, wide]);
        let shape = [wide, 3, config.patch_size, config.patch_size];
        let patches = LinearLeaves::patches(layout, &patches, &shape, true);
        let blocks = (0..config.depth)
            .map(|index| {
                let name = format!("{}.{}.{index}", parts.tower, parts.layers);
                BlockLeaves::declare(layout, (config, intern), (&parts, &name))
            })
            .collect();
        let last = intern.final_norm.then(|| {
            NormLeaves::declare(
                layout,
                &format!("{}.layernorm", parts.tower),
                wide,
                NormKind::Layer,
            )
        });
        layout.part(Part::Projector);
        let joined = wide * config.merge * config.merge;
        let [norm, first, second] = parts.projector;
        let projector_norm = NormLeaves::declare(layout, norm, joined, NormKind::Layer);
        let projector = [
            LinearLeaves::declare(layout, first, (out, joined)),
            LinearLeaves::declare(layout, second, (out, out)),
        ];
        layout.part(Part::Decoder);
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

    pub(super) fn bind(self, params: &ParamTable, config: &VisionConfig) -> Tower {
        let eps = match &config.network {
            VisionNetwork::InternVl(intern) => intern.norm.1,
            _ => EPS,
        };
        let block = |leaves: BlockLeaves| Block {
            norms: leaves.norms.map(|norm| norm.bind(params, eps)),
            qkv: leaves.qkv.bind(params),
            // The norms over heads have an epsilon of their own in both layouts.
            head_norms: leaves
                .head_norms
                .map(|norms| norms.map(|norm| norm.bind(params, 1e-6))),
            out: leaves.out.bind(params),
            feed: leaves.feed.map(|linear| linear.bind(params)),
            scales: leaves.scales.map(|scale| params.tensor(scale)),
        };
        Tower {
            config: config.clone(),
            class: params.tensor(self.class),
            positions: params.tensor(self.positions),
            patches: self.patches.bind(params),
            blocks: self.blocks.into_iter().map(block).collect(),
            last: self.last.map(|norm| norm.bind(params, eps)),
            projector_norm: self.projector_norm.bind(params, EPS),
            projector: self.projector.map(|linear| linear.bind(params)),
        }
    }
}

impl BlockLeaves {
    fn declare(
        layout: &mut Layout,
        (config, intern): (&VisionConfig, &InternVit),
        (parts, name): (&Parts, &str),
    ) -> Self {
        let (wide, inner) = (config.hidden_size, config.intermediate_size);
        let attention = format!("{name}.{}", parts.attention);
        let norms = parts.norms.map(|part| {
            NormLeaves::declare(layout, &format!("{name}.{part}"), wide, intern.norm.0)
        });
        let rows = 3 * wide / parts.qkv.len() as i64;
        let stacked: Vec<_> = parts
            .qkv
            .iter()
            .map(|part| (format!("{attention}.{part}"), rows))
            .collect();
        let qkv = LinearLeaves::stacked(layout, &stacked, wide, intern.qkv_bias);
        let head_norms = intern.qk_norm.then(|| {
            ["q_norm", "k_norm"].map(|part| {
                NormLeaves::declare(layout, &format!("{attention}.{part}"), wide, NormKind::Rms)
            })
        });
        let out =
            LinearLeaves::declare(layout, &format!("{attention}.{}", parts.out), (wide, wide));
        let feed = [
            LinearLeaves::declare(layout, &format!("{name}.mlp.fc1"), (inner, wide)),
            LinearLeaves::declare(layout, &format!("{name}.mlp.fc2"), (wide, inner)),
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

impl Tower {
    fn intern(&self) -> &InternVit {
        match &self.config.network {
            VisionNetwork::InternVl(intern) => intern,
            _ => unreachable!("bound to its own network"),
        }
    }

    /// The last state alone, `[tiles, patches, D]`, the class row left out.
    pub(super) fn run(&self, pixels: &Pixels) -> Vec<Tensor> {
        let (side, patch) = (self.intern().image_size, self.config.patch_size);
        let across = side / patch;
        let tiles = pixels.data.size()[0];
        let patches = pixels
            .data
            .view([tiles, 3, across, patch, across, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([tiles, across * across, 3 * patch * patch]);
        let class = self.class.expand([tiles, 1, -1], false);
        let x = Tensor::cat(&[&class, &self.patches.apply(&patches)], 1) + &self.positions;
        let (rows, wide) = (x.size()[1], self.config.hidden_size);
        let mut x = x.view([tiles * rows, wide]);
        let lengths = vec![rows; tiles as usize];
        for block in &self.blocks {
            x = block.apply(&x, &lengths, (&self.config, self.intern()));
        }
        let x = match &self.last {
            None => x,
            Some(norm) => norm.apply(&x),
        };
        vec![x.view([tiles, rows, wide]).narrow(1, 1, rows - 1)]
    }

    /// Squares of patches joined by pixel shuffle, then the projector.
    pub(super) fn project(&self, states: &[Tensor]) -> Features {
        let (merge, wide) = (self.config.merge, self.config.hidden_size);
        let state = &states[0];
        let tiles = state.size()[0];
        let side = self.intern().image_size / self.config.patch_size / merge;
        // A square's patches row by row, as two shuffles, one for each side, leave them.
        let joined = state
            .reshape([tiles, side, merge, side, merge, wide])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([tiles * side * side, merge * merge * wide]);
        let x = self.projector[0].apply(&self.projector_norm.apply(&joined));
        Features {
            main: self.projector[1].apply(&x.gelu("none")),
            deep: Vec::new(),
        }
    }
}

impl Block {
    fn apply(
        &self,
        x: &Tensor,
        lengths: &[i64],
        (config, intern): (&VisionConfig, &InternVit),
    ) -> Tensor {
        let rows = x.size()[0];
        let qkv = self.qkv.apply(&self.norms[0].apply(x)).chunk(3, -1);
        let heads = |x: &Tensor| x.reshape([rows, config.num_heads, -1]);
        let (q, k) = match &self.head_norms {
            None => (heads(&qkv[0]), heads(&qkv[1])),
            Some([q, k]) => (heads(&q.apply(&qkv[0])), heads(&k.apply(&qkv[1]))),
        };
        let mixed = run_attention(&q, &k, &heads(&qkv[2]), lengths);
        let x = self.out.apply(&mixed) * &self.scales[0] + x;
        let inner = intern
            .activation
            .apply(&self.feed[0].apply(&self.norms[1].apply(&x)));
        self.feed[1].apply(&inner) * &self.scales[1] + x
    }
}
