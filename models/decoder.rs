//! The Qwen2 and Qwen3 dense decoders: grouped-query attention, rotary positions, SwiGLU.
//!
//! Variable names are those of the checkpoint. Projections with one input are one matrix: q, k
//! and v; gate and up. Training runs over packed segments; decoding, over a
//! cache, is a file of its own.

use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::config::{Architecture, DecoderConfig};
use crate::input::LmInput;
use crate::layers::{Rotary, rms_norm, rotate, segment_attention};
use crate::params::{Layout, ParamTable};
use crate::vision::{TowerLeaves, Vision};

/// One transformer block's leaves.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) input_norm: Tensor,
    pub(crate) attention: Attention,
    pub(crate) post_norm: Tensor,
    pub(crate) gate_up: Tensor,
    pub(crate) down: Tensor,
}

/// The leaves of a block's attention.
#[derive(Debug)]
pub(crate) struct Attention {
    /// `[(Hq + 2 Hkv) * D, H]`
    pub(crate) qkv: Tensor,
    /// `[(Hq + 2 Hkv) * D]`, Qwen2 only
    pub(crate) bias: Option<Tensor>,
    /// `[D]` each, Qwen3 only
    pub(crate) norms: Option<(Tensor, Tensor)>,
    /// `[H, Hq * D]`
    pub(crate) out: Tensor,
}

/// A decoder-only language model.
pub struct Decoder {
    /// Its shape.
    pub config: DecoderConfig,
    /// Its parameters.
    pub params: ParamTable,
    pub(crate) blocks: Vec<Block>,
    pub(crate) embedding: Tensor,
    pub(crate) norm: Tensor,
    head: Tensor,
    rotary: Rotary,
    vision: Option<Vision>,
}

/// What every block needs of the input besides the residual stream.
pub struct Context<'a> {
    input: &'a LmInput,
    tables: (Tensor, Tensor),
}

struct BlockLeaves {
    input_norm: usize,
    qkv: usize,
    bias: Option<usize>,
    norms: Option<(usize, usize)>,
    out: usize,
    post_norm: usize,
    gate_up: usize,
    down: usize,
}

impl BlockLeaves {
    fn declare(layout: &mut Layout, config: &DecoderConfig, index: i64) -> Self {
        let (hidden, wide, dim) = (
            config.hidden_size,
            config.intermediate_size,
            config.head_dim,
        );
        let (q, kv) = (config.num_heads * dim, config.num_kv_heads * dim);
        let prefix = config.names.text();
        let name = |part: &str| format!("{prefix}.layers.{index}.{part}");
        let mut one = |part: &str, shape: Vec<i64>| layout.leaf(vec![(name(part), shape)]);
        let input_norm = one("input_layernorm.weight", vec![hidden]);
        let norms = (config.architecture == Architecture::Qwen3).then(|| {
            (
                one("self_attn.q_norm.weight", vec![dim]),
                one("self_attn.k_norm.weight", vec![dim]),
            )
        });
        let out = one("self_attn.o_proj.weight", vec![hidden, q]);
        let post_norm = one("post_attention_layernorm.weight", vec![hidden]);
        let down = one("mlp.down_proj.weight", vec![hidden, wide]);
        let stacked = |kind: &str, tail: &[i64]| {
            [("q_proj", q), ("k_proj", kv), ("v_proj", kv)]
                .map(|(part, rows)| {
                    (
                        name(&format!("self_attn.{part}.{kind}")),
                        [&[rows], tail].concat(),
                    )
                })
                .to_vec()
        };
        let qkv = layout.leaf(stacked("weight", &[hidden]));
        let bias =
            (config.architecture == Architecture::Qwen2).then(|| layout.leaf(stacked("bias", &[])));
        let gate_up = layout.leaf(
            ["gate_proj", "up_proj"]
                .map(|part| (name(&format!("mlp.{part}.weight")), vec![wide, hidden]))
                .to_vec(),
        );
        Self {
            input_norm,
            qkv,
            bias,
            norms,
            out,
            post_norm,
            gate_up,
            down,
        }
    }

    fn bind(&self, params: &ParamTable) -> Block {
        Block {
            input_norm: params.tensor(self.input_norm),
            attention: Attention {
                qkv: params.tensor(self.qkv),
                bias: self.bias.map(|index| params.tensor(index)),
                norms: self
                    .norms
                    .map(|(q, k)| (params.tensor(q), params.tensor(k))),
                out: params.tensor(self.out),
            },
            post_norm: params.tensor(self.post_norm),
            gate_up: params.tensor(self.gate_up),
            down: params.tensor(self.down),
        }
    }
}

/// All leaves, before the buffer exists.
struct Leaves {
    vision: Option<TowerLeaves>,
    embedding: usize,
    blocks: Vec<BlockLeaves>,
    norm: usize,
    head: usize,
}

impl Leaves {
    fn declare(layout: &mut Layout, config: &DecoderConfig) -> Self {
        let names = config.names;
        let vision = config
            .vision
            .as_ref()
            .map(|eyes| TowerLeaves::declare(layout, &eyes.tower, (names, config.hidden_size)));
        let table = [config.vocab_size, config.hidden_size];
        let embedding = layout.one(format!("{}.embed_tokens.weight", names.text()), &table);
        let blocks = (0..config.num_layers)
            .map(|index| BlockLeaves::declare(layout, config, index))
            .collect();
        let norm = layout.one(
            format!("{}.norm.weight", names.text()),
            &[config.hidden_size],
        );
        let head = match config.tied {
            true => embedding,
            false => layout.one(names.head(), &table),
        };
        Self {
            vision,
            embedding,
            blocks,
            norm,
            head,
        }
    }
}

impl DecoderConfig {
    /// Number of weights, those of the vision tower and the projector included, a tied head counted
    /// once.
    pub fn parameters(&self) -> i64 {
        let mut layout = Layout::default();
        Leaves::declare(&mut layout, self);
        layout.numel()
    }
}

impl Decoder {
    /// A decoder of zeros, to be filled from a folder or by `randomise`.
    pub fn new(config: DecoderConfig, kind: Kind, device: Device) -> Self {
        let mut layout = Layout::default();
        let leaves = Leaves::declare(&mut layout, &config);
        let params = layout.build(kind, device);
        let blocks = leaves.blocks.iter().map(|block| block.bind(&params));
        Self {
            blocks: blocks.collect(),
            embedding: params.tensor(leaves.embedding),
            norm: params.tensor(leaves.norm),
            head: params.tensor(leaves.head),
            rotary: Rotary::new(
                config.rope_theta,
                config.head_dim,
                &config.rope_axes,
                device,
            ),
            vision: leaves
                .vision
                .zip(config.vision.as_ref())
                .map(|(leaves, eyes)| leaves.bind(&params, eyes)),
            config,
            params,
        }
    }

    /// The kind it computes in.
    pub fn kind(&self) -> Kind {
        self.params.flat().kind()
    }

    /// The device it lives on.
    pub fn device(&self) -> Device {
        self.params.flat().device()
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The head's matrix `[V, H]`: logits are `hidden @ head^T`.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// Changes what of its shape is not in its tensors.
    pub(crate) fn refit(
        &mut self,
        change: &dyn Fn(&mut DecoderConfig) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        change(&mut self.config)?;
        if let (Some(vision), Some(eyes)) = (&mut self.vision, &self.config.vision) {
            vision.processor = eyes.processor.clone();
        }
        Ok(())
    }

    /// Its eyes, where it has any.
    pub fn vision(&self) -> Option<&Vision> {
        self.vision.as_ref()
    }

    /// Ids that a completion must never hold.
    pub fn never(&self) -> &[i64] {
        let eyes = self.config.vision.as_ref();
        eyes.map_or(&[], |eyes| &eyes.tower.tokens.never)
    }

    /// Embeds `ids [T]` to `[T, H]`.
    pub fn embed(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, ids, -1, false, false)
    }

    /// What the blocks need of `input`.
    pub fn context<'a>(&self, input: &'a LmInput) -> Context<'a> {
        Context {
            input,
            tables: self.tables(&input.positions),
        }
    }

    pub(crate) fn tables(&self, positions: &Tensor) -> (Tensor, Tensor) {
        self.rotary.tables(positions, self.kind())
    }

    /// The residual stream `[T, H]` before the first block: embeddings, and pictures in place of
    /// the image tokens'.
    pub fn enter(&self, input: &LmInput) -> Tensor {
        let x = self.embed(&input.ids);
        match &input.features {
            None => x,
            Some(features) => x.index_copy(0, &input.image_rows, &features.main),
        }
    }

    /// Block `index` over the residual stream `x [T, H]`. `keep` is handed the block's rotated
    /// keys and its values, `[T, Hkv, D]` each.
    pub fn block(
        &self,
        index: usize,
        x: &Tensor,
        context: &Context,
        keep: &mut dyn FnMut(usize, &Tensor, &Tensor),
    ) -> Tensor {
        let block = &self.blocks[index];
        let normed = rms_norm(x, &block.input_norm, self.config.rms_norm_eps);
        let (q, k, v) = self.project(&block.attention, &normed);
        let (q, k) = (rotate(&q, &context.tables), rotate(&k, &context.tables));
        keep(index, &k, &v);
        let mixed = segment_attention(&q, &k, &v, &context.input.segments);
        let x = x + mixed.linear(&block.attention.out, None::<&Tensor>);
        let normed = rms_norm(&x, &block.post_norm, self.config.rms_norm_eps);
        let x = x + self.feed_forward(block, &normed);
        let features = context.input.features.as_ref();
        match features.and_then(|features| features.deep.get(index)) {
            None => x,
            Some(deep) => x.index_add(0, &context.input.image_rows, deep),
        }
    }

    /// q `[T, Hq, D]`, k and v `[T, Hkv, D]` before rotation.
    pub(crate) fn project(&self, attention: &Attention, x: &Tensor) -> (Tensor, Tensor, Tensor) {
        let (q, kv, dim) = (
            self.config.num_heads,
            self.config.num_kv_heads,
            self.config.head_dim,
        );
        let rows = x.size()[0];
        let all = x
            .linear(&attention.qkv, attention.bias.as_ref())
            .view([rows, q + 2 * kv, dim]);
        let mut parts = all.split_with_sizes([q, kv, kv], 1).into_iter();
        let mut next = || parts.next().expect("split into three");
        let (q, k, v) = (next(), next(), next());
        match &attention.norms {
            Some((q_norm, k_norm)) => {
                let eps = self.config.rms_norm_eps;
                (rms_norm(&q, q_norm, eps), rms_norm(&k, k_norm, eps), v)
            }
            None => (q, k, v),
        }
    }

    pub(crate) fn feed_forward(&self, block: &Block, x: &Tensor) -> Tensor {
        let gate_up = x.linear(&block.gate_up, None::<&Tensor>);
        let wide = self.config.intermediate_size;
        (gate_up.narrow(-1, 0, wide).silu() * gate_up.narrow(-1, wide, wide))
            .linear(&block.down, None::<&Tensor>)
    }

    /// The final norm over `x [.., H]`.
    pub fn finish(&self, x: &Tensor) -> Tensor {
        rms_norm(x, &self.norm, self.config.rms_norm_eps)
    }

    /// Normalised hidden rows `[T, H]` of `input`, each of which predicts the next token.
    pub fn hidden(&self, input: &LmInput) -> Tensor {
        self.hidden_keeping(input, &mut |_, _, _| {})
    }

    /// [`Self::hidden`], handing out every block's keys and values.
    pub fn hidden_keeping(
        &self,
        input: &LmInput,
        keep: &mut dyn FnMut(usize, &Tensor, &Tensor),
    ) -> Tensor {
        let context = self.context(input);
        let mut x = self.enter(input);
        for index in 0..self.num_blocks() {
            x = self.block(index, &x, &context, keep);
        }
        self.finish(&x)
    }

    /// Logits `[.., V]` of hidden rows `[.., H]`.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        hidden.linear(&self.head, None::<&Tensor>)
    }
}
