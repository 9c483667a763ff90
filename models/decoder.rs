//! The Qwen2 and Qwen3 dense decoders: grouped-query attention, rotary positions, SwiGLU.
//!
//! Variable names are those of the checkpoint. Projections with one input are one matrix: q, k
//! and v; gate and up. Training runs over packed segments; decoding, over a cache, is a file of
//! its own.

use tch::{Device, Kind, Tensor};

use crate::config::DecoderConfig;
use crate::decoder_block::{BlockContext, DecoderBlock, DecoderBlockParams, KvSink};
use crate::input::LmInput;
use crate::layers::{Rotary, RotaryTables, rms_norm};
use crate::linear::Linear;
use crate::params::{Component, ParamId, ParamLayout, ParamTable};
use crate::vision::{TowerParams, Vision};

/// A decoder-only language model.
pub struct Decoder {
    /// Its shape.
    pub config: DecoderConfig,
    /// Its parameters.
    pub params: ParamTable,
    pub(crate) blocks: Vec<DecoderBlock>,
    embedding: Tensor,
    pub(crate) norm: Tensor,
    head: Linear,
    rotary: Rotary,
    vision: Option<Vision>,
}

/// All parameters, before the buffers exist.
struct DecoderParams {
    vision: Option<TowerParams>,
    embedding: ParamId,
    blocks: Vec<DecoderBlockParams>,
    norm: ParamId,
    head: ParamId,
}

impl DecoderParams {
    fn declare(layout: &mut ParamLayout, config: &DecoderConfig) -> Self {
        let names = config.names;
        let vision = config.vision.as_ref().map(|setup| {
            TowerParams::declare(layout, setup.tower.before(names, config.hidden_size))
        });
        let table = [config.vocab_size, config.hidden_size];
        let embedding = layout.one(format!("{}.embed_tokens.weight", names.text()), &table);
        let blocks = (0..config.num_layers)
            .map(|index| DecoderBlockParams::declare(layout, config, index))
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
        self.parameters_without(&[])
    }

    /// [`Self::parameters`] outside of the parts `frozen`.
    pub fn parameters_without(&self, frozen: &[Component]) -> i64 {
        let mut layout = ParamLayout::default();
        DecoderParams::declare(&mut layout, self);
        layout.numel_without(frozen)
    }
}

impl Decoder {
    /// A decoder of zeros, to be filled from a folder or by `randomise`. All of it can learn.
    pub fn new(config: DecoderConfig, kind: Kind, device: Device) -> Self {
        Self::with_frozen(config, &[], kind, device)
    }

    /// [`Self::new`] with the parts `frozen`, whose weights lie apart from those that can learn.
    pub fn with_frozen(
        config: DecoderConfig,
        frozen: &[Component],
        kind: Kind,
        device: Device,
    ) -> Self {
        let mut layout = ParamLayout::default();
        let declared = DecoderParams::declare(&mut layout, &config);
        let params = layout.build(frozen, kind, device);
        let blocks = declared.blocks.into_iter();
        Self {
            blocks: blocks.map(|block| block.bind(&params, &config)).collect(),
            embedding: params.tensor(declared.embedding),
            norm: params.tensor(declared.norm),
            head: Linear {
                weight: params.tensor(declared.head),
                bias: None,
            },
            rotary: Rotary::new(
                config.rope_theta,
                config.head_dim,
                &config.rope_axes,
                device,
            ),
            vision: declared
                .vision
                .zip(config.vision.as_ref())
                .map(|(tower, setup)| tower.bind(&params, setup)),
            config,
            params,
        }
    }

    /// The kind it computes in.
    pub fn kind(&self) -> Kind {
        self.params.kind()
    }

    /// The device it lives on.
    pub fn device(&self) -> Device {
        self.params.device()
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The head's matrix `[V, H]`: logits are `hidden @ head^T`.
    pub fn head(&self) -> &Tensor {
        &self.head.weight
    }

    /// What sees pictures, where it has any.
    pub fn vision(&self) -> Option<&Vision> {
        self.vision.as_ref()
    }

    /// Ids that a completion must never hold.
    pub fn suppress_tokens(&self) -> &[i64] {
        let setup = self.config.vision.as_ref();
        setup.map_or(&[], |setup| &setup.tower.tokens.suppress)
    }

    /// Embeds `ids [T]` to `[T, H]`.
    pub fn embed(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, ids, -1, false, false)
    }

    /// What the blocks need of `input`.
    pub fn context<'a>(&self, input: &'a LmInput) -> BlockContext<'a> {
        BlockContext {
            input,
            tables: self.tables(&input.positions),
        }
    }

    pub(crate) fn tables(&self, positions: &Tensor) -> RotaryTables {
        self.rotary.tables(positions, self.kind())
    }

    /// The residual stream `[T, H]` before the first block: embeddings, and pictures in place of
    /// the image tokens'.
    pub fn embed_inputs(&self, input: &LmInput) -> Tensor {
        let x = self.embed(&input.ids);
        match &input.features {
            None => x,
            Some(features) => x.index_copy(0, &input.image_rows, &features.main),
        }
    }

    /// Block `index` over the residual stream `x [T, H]`; `kv_sink` is handed its keys and values.
    pub fn block(
        &self,
        index: usize,
        x: &Tensor,
        context: &BlockContext,
        kv_sink: &mut KvSink,
    ) -> Tensor {
        self.blocks[index].forward(index, x, context, kv_sink)
    }

    /// The final norm over `x [.., H]`.
    pub fn final_norm(&self, x: &Tensor) -> Tensor {
        rms_norm(x, &self.norm, self.config.rms_norm_eps)
    }

    /// Normalised hidden rows `[T, H]` of `input`, each of which predicts the next token.
    pub fn hidden(&self, input: &LmInput) -> Tensor {
        self.hidden_keeping(input, &mut |_, _, _| {})
    }

    /// [`Self::hidden`], handing out every block's keys and values.
    pub fn hidden_keeping(&self, input: &LmInput, kv_sink: &mut KvSink) -> Tensor {
        let context = self.context(input);
        let mut x = self.embed_inputs(input);
        for index in 0..self.num_blocks() {
            x = self.block(index, &x, &context, kv_sink);
        }
        self.final_norm(&x)
    }

    /// Logits `[.., V]` of hidden rows `[.., H]`.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        self.head.forward(hidden)
    }
}
