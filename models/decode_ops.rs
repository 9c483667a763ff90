//! What a decoding step does between its matrix products, in two ways that compute the same: plain
//! operators on any device in any kind, and fused kernels on the CPU in float32.

use tch::{IndexOp, Kind, Tensor};

use crate::ModelError;
use crate::cache::{DecodeRows, KvPages};
use crate::decoder::Decoder;
use crate::decoder_block::gated;
use crate::layers::{RotaryTables, reduce_kind, rms_norm, rotate};

/// What a step looks at.
pub(crate) struct StepView<'a> {
    pub(crate) model: &'a Decoder,
    pub(crate) rows: &'a DecodeRows,
    pub(crate) tables: RotaryTables,
    pub(crate) prompt_kv: &'a KvPages,
    pub(crate) completion_kv: &'a KvPages,
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

    /// The RMS norm of `x + y`, and that sum, `[n, H]` each.
    fn add_norm(
        &self,
        y: &Tensor,
        x: &Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError>;

    /// `silu(gate) * up` of `gate_up [n, 2 I]`.
    fn gate(&self, gate_up: &Tensor) -> Result<Tensor, ModelError>;
}

/// tch's operators.
pub(crate) struct PlainOps<'a>(StepView<'a>);

/// The kernels of torch-ext.
pub(crate) struct FusedOps<'a> {
    view: StepView<'a>,
    eps: f32,
    /// Tokens of each row's completion, this one included, `[n]`.
    lengths: Tensor,
}

impl<'a> PlainOps<'a> {
    pub(crate) fn new(view: StepView<'a>) -> Self {
        Self(view)
    }

    /// Keys or values of each row, `[n, Hkv, P + L, D]`: its prompt's to the longest one, then its
    /// own.
    fn gather(&self, prompts: &Tensor, completions: &Tensor) -> Tensor {
        let rows = self.0.rows;
        let (prompt, own) = (rows.longest_prompt, rows.largest_position + 1);
        let prompts = prompts.i((.., .., ..prompt)).index_select(0, &rows.pages);
        let own = completions.i((.., .., ..own)).index_select(0, &rows.slots);
        Tensor::cat(&[prompts, own], 2)
    }
}

impl DecodeOps for PlainOps<'_> {
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError> {
        Ok(rms_norm(x, weight, self.0.model.config.rms_norm_eps))
    }

    fn rotate_and_store(&self, index: usize, qkv: &Tensor) -> Result<Tensor, ModelError> {
        let StepView { model, rows, .. } = &self.0;
        let (q, k, v) = model.blocks[index].attention.split(qkv);
        let (q, k) = (rotate(&q, &self.0.tables), rotate(&k, &self.0.tables));
        let kv = self.0.completion_kv;
        for (cache, new) in [(&kv.keys[index], &k), (&kv.values[index], &v)] {
            let mut by_position = cache.transpose(1, 2);
            let _ = by_position.index_put_(&[Some(&rows.slots), Some(&rows.positions)], new, false);
        }
        Ok(q)
    }

    /// Two batched products and a softmax.
    fn attend(&self, index: usize, q: &Tensor) -> Result<Tensor, ModelError> {
        let (rows, prompts, own) = (self.0.rows, self.0.prompt_kv, self.0.completion_kv);
        let keys = self.gather(&prompts.keys[index], &own.keys[index]);
        let values = self.gather(&prompts.values[index], &own.values[index]);
        let (n, heads, dim) = (q.size()[0], q.size()[1], q.size()[2]);
        let kv_heads = keys.size()[1];
        let q = q.view([n, kv_heads, heads / kv_heads, dim]);
        let kind = q.kind();
        let scores =
            q.matmul(&keys.transpose(2, 3)).to_kind(reduce_kind(kind)) / (dim as f64).sqrt();
        let count = |len: i64| Tensor::arange(len, (Kind::Int64, q.device())).unsqueeze(0);
        let beyond = Tensor::cat(
            &[
                count(rows.longest_prompt).ge_tensor(&rows.prompts.unsqueeze(1)),
                count(rows.largest_position + 1).gt_tensor(&rows.positions.unsqueeze(1)),
            ],
            1,
        );
        let weights = scores
            .masked_fill(&beyond.view([n, 1, 1, -1]), f64::NEG_INFINITY)
            .softmax(-1, None)
            .to_kind(kind);
        Ok(weights.matmul(&values).reshape([n, heads * dim]))
    }

    fn add_norm(
        &self,
        y: &Tensor,
        x: &Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let sum = x + y;
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
            view,
        }
    }
}

impl DecodeOps for FusedOps<'_> {
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError> {
        Ok(torch_ext::rms_norm(x, weight, self.eps)?)
    }

    fn rotate_and_store(&self, index: usize, qkv: &Tensor) -> Result<Tensor, ModelError> {
        let StepView { model, rows, .. } = &self.view;
        let norms = model.blocks[index].attention.norms.as_ref();
        let kv = self.view.completion_kv;
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
                k: &kv.keys[index],
                v: &kv.values[index],
                slots: &rows.slots,
                positions: &rows.positions,
            },
        })?;
        Ok(q)
    }

    fn attend(&self, index: usize, q: &Tensor) -> Result<Tensor, ModelError> {
        let StepView {
            rows,
            prompt_kv,
            completion_kv,
            ..
        } = &self.view;
        let prompts = torch_ext::CachedRows {
            k: &prompt_kv.keys[index],
            v: &prompt_kv.values[index],
            slots: &rows.pages,
            lengths: &rows.prompts,
        };
        let own = torch_ext::CachedRows {
            k: &completion_kv.keys[index],
            v: &completion_kv.values[index],
            slots: &rows.slots,
            lengths: &self.lengths,
        };
        let mixed = torch_ext::decode_attention(q, prompts, own)?;
        Ok(mixed.view([q.size()[0], -1]))
    }

    fn add_norm(
        &self,
        y: &Tensor,
        x: &Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        Ok(torch_ext::add_rms_norm(y, x, weight, self.eps)?)
    }

    fn gate(&self, gate_up: &Tensor) -> Result<Tensor, ModelError> {
        Ok(torch_ext::silu_mul(gate_up)?)
    }
}
