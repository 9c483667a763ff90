//! The Qwen2 and Qwen3 dense decoders: grouped-query attention, rotary positions, SwiGLU.
//!
//! Variable names are those of the checkpoint. Projections with one input are one matrix: q, k
//! and v; gate and up. Training runs over packed segments; decoding, over a cache, is a file of
//! its own.

use std::collections::BTreeSet;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::config::DecoderConfig;
use crate::decoder_block::{BlockContext, DecoderBlock, DecoderBlockParams, KvSink};
use crate::input::LmInput;
use crate::layers::{CausalMasks, Rotary, RotaryTables, rms_norm};
use crate::linear::Linear;
use crate::lora::{
    AdapterLayout, AdapterMode, Adapters, LoraConfig, LoraTargets, draw_adapters, is_called,
    merge_adapters, merged, mix,
};
use crate::packed_attention::PackedSegments;
use crate::param_layout::ParamLayout;
use crate::params::{AdapterSpec, Component, ParamId, ParamSpec, ParamTable};
use crate::units::{EMBEDDING_UNIT, FIRST_BLOCK_UNIT};
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
    adapters: Option<Adapters>,
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
        layout.next_unit();
        let embedding = layout.one(format!("{}.embed_tokens.weight", names.text()), &table);
        let blocks = (0..config.num_layers)
            .map(|index| {
                layout.next_unit();
                DecoderBlockParams::declare(layout, config, index)
            })
            .collect();
        layout.next_unit();
        let norm = layout.one(
            format!("{}.norm.weight", names.text()),
            &[config.hidden_size],
        );
        let head = match config.tied {
            true => embedding,
            false => {
                layout.next_unit();
                layout.one(names.head(), &table)
            }
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

    /// Number of weights of each unit that learn, outside of the parts `frozen`.
    pub fn unit_sizes(&self, frozen: &[Component]) -> Vec<i64> {
        let mut layout = ParamLayout::default();
        DecoderParams::declare(&mut layout, self);
        layout.unit_sizes(frozen)
    }

    /// Number of the adapters' weights that `lora` asks for, of each unit.
    ///
    /// # Errors
    /// A target that no layer is called; a tower's adapters where there is none.
    pub fn adapter_units(&self, lora: &LoraConfig) -> Result<Vec<i64>, ModelError> {
        let mut layout = self.adapter_layout(lora)?;
        DecoderParams::declare(&mut layout, self);
        check_targets(&layout, lora)?;
        Ok(layout.adapter_units())
    }

    fn adapter_layout(&self, lora: &LoraConfig) -> Result<ParamLayout, ModelError> {
        let refuse = |key: &str, reason: &str| Err(ModelError::unsupported("lora", key, reason));
        if let Err(reason) = lora.check() {
            let (key, rule) = reason.split_once(": ").unwrap_or(("rank", &reason));
            return refuse(key, rule);
        }
        if lora.vision && self.vision.is_none() {
            return refuse("vision", "this model reads text only");
        }
        Ok(ParamLayout::with_adapters(AdapterLayout::new(
            lora,
            self.names.module_prefixes(),
        )))
    }
}

/// Whether every target of `lora` is a layer that got an adapter.
fn check_targets(layout: &ParamLayout, lora: &LoraConfig) -> Result<(), ModelError> {
    let LoraTargets::Names(names) = &lora.targets else {
        return Ok(());
    };
    let (all, adapted) = layout.modules();
    let adapted: Vec<&str> = adapted.collect();
    let meant = |name: &&String| adapted.iter().any(|module| is_called(module, name));
    let Some(name) = names.iter().find(|name| !meant(name)) else {
        return Ok(());
    };
    let reason = match all.iter().any(|module| is_called(module, name)) {
        true => format!("`{name}` is a layer of the part that sees: `vision: true` adapts it"),
        false => {
            let ends = all.iter().filter_map(|module| module.rsplit('.').next());
            let ends: BTreeSet<&str> = ends.collect();
            let ends: Vec<&str> = ends.into_iter().collect();
            format!(
                "no linear layer is called `{name}`; names end in {}",
                ends.join(", ")
            )
        }
    };
    Err(ModelError::unsupported("lora", "targets", reason))
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
        Self::bind(config, declared, params)
    }

    /// [`Self::new`] with the adapters of `lora`, which alone can learn: A and B of zeros. The weights beside them are
    /// those of the folder `base`; `seed` is what [`Self::draw_adapters`] and dropout begin from.
    ///
    /// # Errors
    /// A target that no layer is called.
    pub fn with_adapters(
        config: DecoderConfig,
        lora: &LoraConfig,
        (base, seed): (&Path, u64),
        (kind, device): (Kind, Device),
    ) -> Result<Self, ModelError> {
        let mut layout = config.adapter_layout(lora)?;
        let declared = DecoderParams::declare(&mut layout, &config);
        check_targets(&layout, lora)?;
        let modules = layout.modules().0.to_vec();
        let params = layout.build(&[], kind, device);
        Ok(Self {
            adapters: Some(Adapters {
                config: lora.clone(),
                base: base.to_owned(),
                seed,
                modules,
            }),
            ..Self::bind(config, declared, params)
        })
    }

    fn bind(config: DecoderConfig, declared: DecoderParams, params: ParamTable) -> Self {
        let device = params.device();
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
            adapters: None,
            config,
            params,
        }
    }

    /// Its adapters, where it has any.
    pub fn adapters(&self) -> Option<&Adapters> {
        self.adapters.as_ref()
    }

    /// Fresh adapters, without effect yet, from the seed that they were made with.
    pub fn draw_adapters(&self) {
        if let Some(adapters) = &self.adapters {
            draw_adapters(&self.params, adapters.seed);
        }
    }

    /// Folds the adapters into the weights beside them, in float32 (float64 stays), rounded once; then they have no
    /// effect.
    pub fn merge_adapters(&self) {
        if let Some(adapters) = &self.adapters {
            merge_adapters(&self.params, adapters.config.scale());
        }
    }

    /// The numbers of one of the checkpoint's tensors, with the adapter that stands beside it.
    pub fn weight(&self, spec: &ParamSpec) -> Tensor {
        let of_spec = |adapter: &&AdapterSpec| adapter.base == spec.name;
        let adapter = self.params.adapters().iter().find(of_spec);
        match self.adapters.as_ref().zip(adapter) {
            None => self.params.view(spec),
            Some((all, adapter)) => {
                tch::no_grad(|| merged(&self.params, (spec, adapter), all.config.scale()))
            }
        }
    }

    /// What adapters do while gradients of update number `update` are made.
    pub fn learning(&self, update: u64) -> AdapterMode {
        let adapters = self.adapters.as_ref();
        adapters.map_or(AdapterMode::On, |adapters| {
            AdapterMode::Learn(mix(adapters.seed, update))
        })
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
            adapters: input.adapter_pass(),
            masks: CausalMasks::default(),
            packed: PackedSegments::new(
                &input.segments,
                self.config.head_dim,
                (self.kind(), self.device()),
            ),
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
        let (params, first) = (&self.params, Some(FIRST_BLOCK_UNIT));
        let mut x = params.within(EMBEDDING_UNIT, first, || self.embed_inputs(input));
        for index in 0..self.num_blocks() {
            let unit = FIRST_BLOCK_UNIT + index;
            x = params.within(unit, Some(unit + 1), || {
                self.block(index, &x, &context, kv_sink)
            });
        }
        params.within(self.config.norm_unit(), None, || self.final_norm(&x))
    }

    /// Logits `[.., V]` of hidden rows `[.., H]`.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        self.head.forward(hidden)
    }
}
