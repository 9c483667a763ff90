//! What a decoding step does between its matrix products, in two ways that compute the same: plain
//! operators on any device in any kind, and fused kernels on the CPU in float32. A third, for GPUs with
//! flash attention, is a file of its own.

use tch::{Kind, Tensor};

use crate::ModelError;
use crate::cache::{DecodeRows, KvCache};
use crate::decoder::Decoder;
use crate::decoder_block::gated;
use crate::layers::{RotaryTables, reduce_kind, rms_norm, rotate};
use crate::linear::Projection;
use crate::lora::AdapterPass;

/// What a step looks at.
pub(crate) struct StepView<'a> {
    pub(crate) model: &'a Decoder,
    pub(crate) rows: &'a DecodeRows,
    pub(crate) tables: RotaryTables,
    pub(crate) cache: &'a KvCache,
}

/// The steps between the products; `n` rows.
pub(crate) trait DecodeOps {
    /// RMS norm of `x [n, H]`.
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError>;

    /// Takes block `index`'s projection `qkv [n, (Hq + 2 Hkv) * D]` apart: norms and rotates the
    /// heads of q and k, keeps k and v in the cache, gives q `[n, Hq, D]`.
    fn rotate_and_store(&self, index: usize, qkv: &Tensor) -> Result<Tensor, ModelError>;

    /// Attention of `q [n, Hq, D]` over each row's prompt and completion so far, `[n, Hq * D]`.
    fn attend(&self, index: usize, q: &Tensor) -> Result<Tensor, ModelError>;

    /// The RMS norm of `x` plus the map of its input, and that sum, `[n, H]` each.
    fn add_norm(
        &self,
        mapped: (&Projection, &Tensor),
        x: Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError>;

    /// `silu(gate) * up` of `gate_up [n, 2 I]`.
    fn gate(&self, gate_up: &Tensor) -> Result<Tensor, ModelError>;
}

/// tch's operators.
pub(crate) struct PlainOps<'a> {
    view: StepView<'a>,
    /// The rows of the cache that each row reads, `[n * (P + L)]`: its prompt's, then its own; where either is shorter than
    /// the longest, its last one again.
    read: Tensor,
    /// Which of them do not count, `[n, P + L]` bool.
    beyond: Tensor,
    /// Where each row's new key and value go, `[n]`.
    places: Tensor,
}

/// The kernels of torch-ext.
pub(crate) struct FusedOps<'a> {
    view: StepView<'a>,
    eps: f32,
    /// Tokens of each row's completion, this one included, `[n]`.
    lengths: Tensor,
    /// Where each row's new key and value go, `[n]`.
    places: Tensor,
}

impl<'a> PlainOps<'a> {
    pub(crate) fn new(view: StepView<'a>) -> Self {
        let rows = view.rows;
        let count = |len: i64| Tensor::arange(len, (Kind::Int64, rows.ids.device())).unsqueeze(0);
        let column = |of: &Tensor| of.unsqueeze(1);
        let (prompt, own) = (count(rows.longest_prompt), count(rows.largest_position + 1));
        let last = column(&rows.prompt_lengths) - 1;
        let read = [
            prompt.minimum(&last.clamp_min(0)) + column(&rows.prompt_starts),
            own.minimum(&column(&rows.positions)) + column(&rows.starts),
        ];
        let beyond = [
            prompt.gt_tensor(&last),
            own.gt_tensor(&column(&rows.positions)),
        ];
        Self {
            read: Tensor::cat(&read, 1).view([-1]),
            beyond: Tensor::cat(&beyond, 1),
            places: &rows.starts + &rows.positions,
            view,
        }
    }

    /// Keys or values that each row reads, `[n, Hkv, P + L, D]`.
    fn gather(&self, cache: &Tensor) -> Tensor {
        let (heads, dim) = (cache.size()[0], cache.size()[2]);
        let rows = cache.index_select(1, &self.read);
        rows.view([heads, self.beyond.size()[0], -1, dim])
            .transpose(0, 1)
    }
}

impl DecodeOps for PlainOps<'_> {
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError> {
        Ok(rms_norm(x, weight, self.view.model.config.rms_norm_eps))
    }

    fn rotate_and_store(&self, index: usize, qkv: &Tensor) -> Result<Tensor, ModelError> {
        let StepView {
            model,
            tables,
            cache,
            ..
        } = &self.view;
        let (q, k, v) = model.blocks[index].attention.split(qkv);
        let (q, k) = (rotate(&q, tables), rotate(&k, tables));
        for (cache, new) in [(&cache.keys[index], &k), (&cache.values[index], &v)] {
            let _ = cache
                .shallow_clone()
                .index_copy_(1, &self.places, &new.transpose(0, 1));
        }
        Ok(q)
    }

    /// Two batched products and a softmax.
    fn attend(&self, index: usize, q: &Tensor) -> Result<Tensor, ModelError> {
        let cache = self.view.cache;
        let keys = self.gather(&cache.keys[index]);
        let values = self.gather(&cache.values[index]);
        let (n, heads, dim) = (q.size()[0], q.size()[1], q.size()[2]);
        let kv_heads = keys.size()[1];
        let q = q.view([n, kv_heads, heads / kv_heads, dim]);
        let kind = q.kind();
        let scores =
            q.matmul(&keys.transpose(2, 3)).to_kind(reduce_kind(kind)) / (dim as f64).sqrt();
        let weights = scores
            .masked_fill(&self.beyond.view([n, 1, 1, -1]), f64::NEG_INFINITY)
            .softmax(-1, None)
            .to_kind(kind);
        Ok(weights.matmul(&values).reshape([n, heads * dim]))
    }

    fn add_norm(
        &self,
        (map, input): (&Projection, &Tensor),
        x: Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let sum = x + map.forward(input, AdapterPass::ON);
        Ok((self.norm(&sum, weight)?, sum))
    }

    fn gate(&self, gate_up: &Tensor) -> Result<Tensor, ModelError> {
        Ok(gated(gate_up))
    }
}

impl<'a> FusedOps<'a> {
    pub(crate) fn new(view: StepView<'a>) -> Self {
        Self {
            eps: view.model.config.rms_norm_eps as f32,
            lengths: &view.rows.positions + 1,
            places: &view.rows.starts + &view.rows.positions,
            view,
        }
    }
}

impl DecodeOps for FusedOps<'_> {
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError> {
        Ok(torch_ext::rms_norm(x, weight, self.eps)?)
    }

    fn rotate_and_store(&self, index: usize, qkv: &Tensor) -> Result<Tensor, ModelError> {
        let StepView { model, cache, .. } = &self.view;
        let norms = model.blocks[index].attention.norms.as_ref();
        let q = torch_ext::fused_qkv_post(torch_ext::QkvPost {
            qkv,
            norms: norms.map(|norms| torch_ext::HeadNorms {
                q: &norms.q,
                k: &norms.k,
                eps: self.eps,
            }),
            rotation: torch_ext::Rotation {
                cos: &self.view.tables.cos,
                sin: &self.view.tables.sin,
            },
            cache: torch_ext::CachePlaces {
                k: &cache.keys[index],
                v: &cache.values[index],
                places: &self.places,
            },
        })?;
        Ok(q)
    }

    fn attend(&self, index: usize, q: &Tensor) -> Result<Tensor, ModelError> {
        let StepView { rows, cache, .. } = &self.view;
        let part = |starts, lengths| torch_ext::CachedRows {
            k: &cache.keys[index],
            v: &cache.values[index],
            starts,
            lengths,
        };
        let prompts = part(&rows.prompt_starts, &rows.prompt_lengths);
        let own = part(&rows.starts, &self.lengths);
        let mixed = torch_ext::decode_attention(q, prompts, own)?;
        Ok(mixed.view([q.size()[0], -1]))
    }

    fn add_norm(
        &self,
        (map, input): (&Projection, &Tensor),
        x: Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let y = map.forward(input, AdapterPass::ON);
        Ok(torch_ext::add_rms_norm(&y, &x, weight, self.eps)?)
    }

    fn gate(&self, gate_up: &Tensor) -> Result<Tensor, ModelError> {
        Ok(torch_ext::silu_mul(gate_up)?)
    }
}
