//! A decoder block's parameters, and its arithmetic as training and prefill run it: over packed
//! segments, with a graph. Decoding does the same over a cache in a file of its own.

use tch::Tensor;

use crate::config::{DecoderConfig, HeadCounts};
use crate::input::LmInput;
use crate::layers::{
    CausalMasks, RotaryTables, fuses, of_kernel, rms_norm, rotate, segment_attention,
};
use crate::linear::{LinearParams, Projection};
use crate::lora::AdapterPass;
use crate::packed_attention::PackedSegments;
use crate::param_layout::ParamLayout;
use crate::params::{ParamId, ParamTable};

/// One transformer block.
#[derive(Debug)]
pub(crate) struct DecoderBlock {
    /// `[H]`
    pub(crate) input_norm: Tensor,
    pub(crate) attention: GroupedAttention,
    /// `[H]`
    pub(crate) post_norm: Tensor,
    /// The gate above what it gates, `[2 I, H]`.
    pub(crate) gate_up: Projection,
    /// `[H, I]`
    pub(crate) down: Projection,
    pub(crate) eps: f64,
}

/// A block's attention: groups of query heads share key and value heads.
#[derive(Debug)]
pub(crate) struct GroupedAttention {
    /// `[(Hq + 2 Hkv) * D, H]`, with biases in Qwen2.
    pub(crate) qkv: Projection,
    /// Over the heads of q and k in Qwen3.
    pub(crate) norms: Option<HeadNormWeights>,
    /// `[H, Hq * D]`
    pub(crate) out: Projection,
    pub(crate) heads: HeadCounts,
    pub(crate) eps: f64,
}

/// RMS norms over heads, `[D]` each.
#[derive(Debug)]
pub(crate) struct HeadNormWeights {
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
}

/// What every block needs of the input besides the residual stream.
pub struct BlockContext<'a> {
    pub(crate) input: &'a LmInput,
    pub(crate) tables: RotaryTables,
    pub(crate) adapters: AdapterPass<'a>,
    pub(crate) masks: CausalMasks,
    /// On a GPU with flash attention.
    pub(crate) packed: Option<PackedSegments>,
}

/// Is handed a block's number, its rotated keys and its values, `[T, Hkv, D]` each.
pub type KvSink<'a> = dyn FnMut(usize, &Tensor, &Tensor) + 'a;

impl GroupedAttention {
    /// [`Self::split`], q and k rotated.
    fn turned(&self, qkv: &Tensor, tables: &RotaryTables) -> [Tensor; 3] {
        if !fuses(qkv) || !qkv.is_contiguous() {
            let (q, k, v) = self.split(qkv);
            return [rotate(&q, tables), rotate(&k, tables), v];
        }
        of_kernel(torch_ext::learn_turn_heads(torch_ext::LearnHeads {
            qkv,
            norms: self.norms.as_ref().map(|norms| torch_ext::HeadNorms {
                q: &norms.q,
                k: &norms.k,
                eps: self.eps as f32,
            }),
            rotation: torch_ext::Rotation {
                cos: &tables.cos,
                sin: &tables.sin,
            },
            heads: (self.heads.q, self.heads.kv),
        }))
    }

    /// q `[T, Hq, D]`, k and v `[T, Hkv, D]` of the projection `qkv [T, (Hq + 2 Hkv) * D]`, normed
    /// where the family norms them, before rotation.
    pub(crate) fn split(&self, qkv: &Tensor) -> (Tensor, Tensor, Tensor) {
        let HeadCounts { q, kv, dim } = self.heads;
        let all = qkv.view([qkv.size()[0], q + 2 * kv, dim]);
        let mut parts = all.split_with_sizes([q, kv, kv], 1).into_iter();
        let mut next = || parts.next().expect("split into three");
        let (q, k, v) = (next(), next(), next());
        match &self.norms {
            Some(norms) => (
                rms_norm(&q, &norms.q, self.eps),
                rms_norm(&k, &norms.k, self.eps),
                v,
            ),
            None => (q, k, v),
        }
    }
}

/// SwiGLU's product: `silu(gate) * up` of `gate_up [.., 2 I]`.
pub(crate) fn gated(gate_up: &Tensor) -> Tensor {
    if fuses(gate_up) && gate_up.dim() == 2 && gate_up.is_contiguous() {
        return of_kernel(torch_ext::learn_silu_mul(gate_up));
    }
    let wide = gate_up.size()[gate_up.dim() - 1] / 2;
    gate_up.narrow(-1, 0, wide).silu() * gate_up.narrow(-1, wide, wide)
}

impl DecoderBlock {
    /// Block number `index` over the residual stream `x [T, H]`.
    pub(crate) fn forward(
        &self,
        index: usize,
        x: &Tensor,
        context: &BlockContext,
        kv_sink: &mut KvSink,
    ) -> Tensor {
        let (attention, pass) = (&self.attention, context.adapters);
        let normed = rms_norm(x, &self.input_norm, self.eps);
        let [q, k, v] = attention.turned(&attention.qkv.forward(&normed, pass), &context.tables);
        kv_sink(index, &k, &v);
        let mixed = match &context.packed {
            Some(packed) => packed.attend(&q, &k, &v),
            None => segment_attention([&q, &k, &v], &context.input.segments, &context.masks),
        };
        let x = x + attention.out.forward(&mixed, pass);
        let normed = rms_norm(&x, &self.post_norm, self.eps);
        let x = x + self
            .down
            .forward(&gated(&self.gate_up.forward(&normed, pass)), pass);
        let features = context.input.features.as_ref();
        match features.and_then(|features| features.deep.get(index)) {
            None => x,
            Some(deep) => x.index_add(0, &context.input.image_rows, deep),
        }
    }
}

/// A block's parameters, before the buffers exist.
pub(crate) struct DecoderBlockParams {
    input_norm: ParamId,
    norms: Option<[ParamId; 2]>,
    out: LinearParams,
    post_norm: ParamId,
    down: LinearParams,
    qkv: LinearParams,
    gate_up: LinearParams,
}

impl DecoderBlockParams {
    pub(crate) fn declare(layout: &mut ParamLayout, config: &DecoderConfig, index: i64) -> Self {
        let traits = config.architecture.traits();
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let HeadCounts { q, kv, dim } = config.head_counts();
        let prefix = config.names.text();
        let name = |part: &str| format!("{prefix}.layers.{index}.{part}");
        let norm = |layout: &mut ParamLayout, part: &str, wide: i64| {
            layout.one(name(&format!("{part}.weight")), &[wide])
        };
        let map = |layout: &mut ParamLayout, parts: &[(&str, i64)], wide: i64, bias: bool| {
            let parts: Vec<_> = parts.iter().map(|(part, out)| (name(part), *out)).collect();
            LinearParams::stacked(layout, &parts, wide, bias)
        };
        // The checkpoint's order; optimizer files and equal bytes of equal weights hang on it.
        let input_norm = norm(layout, "input_layernorm", hidden);
        let norms = traits
            .head_norms
            .then(|| ["self_attn.q_norm", "self_attn.k_norm"].map(|part| norm(layout, part, dim)));
        let out = map(layout, &[("self_attn.o_proj", hidden)], q * dim, false);
        let post_norm = norm(layout, "post_attention_layernorm", hidden);
        let down = map(layout, &[("mlp.down_proj", hidden)], wide, false);
        let qkv = [
            ("self_attn.q_proj", q * dim),
            ("self_attn.k_proj", kv * dim),
            ("self_attn.v_proj", kv * dim),
        ];
        let qkv = map(layout, &qkv, hidden, traits.qkv_bias);
        let gate_up = [("mlp.gate_proj", wide), ("mlp.up_proj", wide)];
        let gate_up = map(layout, &gate_up, hidden, false);
        Self {
            input_norm,
            norms,
            out,
            post_norm,
            down,
            qkv,
            gate_up,
        }
    }

    pub(crate) fn bind(self, params: &ParamTable, config: &DecoderConfig) -> DecoderBlock {
        let eps = config.rms_norm_eps;
        DecoderBlock {
            input_norm: params.tensor(self.input_norm),
            attention: GroupedAttention {
                qkv: self.qkv.bind(params),
                norms: self.norms.map(|[q, k]| HeadNormWeights {
                    q: params.tensor(q),
                    k: params.tensor(k),
                }),
                out: self.out.bind(params),
                heads: config.head_counts(),
                eps,
            },
            post_norm: params.tensor(self.post_norm),
            gate_up: self.gate_up.bind(params),
            down: self.down.bind(params),
            eps,
        }
    }
}
