//! A decoding step between its matrix products on a GPU that has flash attention.
//!
//! Written for few operators, none of which waits for the host, so that a CUDA graph can hold the step:
//! - One call of flash attention reads the ranges of prompts and of completions where they lie in the cache. Each row
//!   asks twice, once of either range: libtorch 2.11 has no table of blocks, but it takes the starts of the keys in any
//!   order and their lengths. The two answers are weighed by their log-sum-exps (Dao 2022, FlashAttention, section 3).
//! - All heads of the projection are normed at once, the values' to no use; q and k are rotated at once, in the
//!   projection's own memory, behind which the values stand: one copy puts both into the cache.
//! - The residual stream is what the products before it add to.

use tch::{Kind, Tensor};
use torch_ext::{FlashArgs, PackedRows, flash_attention};

use crate::ModelError;
use crate::config::HeadCounts;
use crate::decode_ops::{DecodeOps, StepView};
use crate::decoder_block::gated;
use crate::linear::Projection;
use crate::lora::AdapterPass;

/// The operators of a GPU.
pub(crate) struct FlashOps<'a> {
    view: StepView<'a>,
    /// Row numbers, each row's question to its prompt and then each row's to its own range, `[2 n + 1]` int32.
    asked: Tensor,
    /// Where the range of each question starts, `[2 n + 1]` int32; the last counts for nothing.
    starts: Tensor,
    /// How many keys it has, `[2 n]` int32.
    lengths: Tensor,
    /// Where each row's new key and value go, `[n]`.
    places: Tensor,
    /// Cosines, `[n, 1, D]`.
    cos: Tensor,
    /// Sines for a head whose halves changed places, `[n, 1, D]`: the first half's are negative.
    sin: Tensor,
}

impl<'a> FlashOps<'a> {
    pub(crate) fn new(view: StepView<'a>) -> Self {
        let rows = view.rows;
        let count = rows.ids.size()[0];
        let narrow = |parts: &[&Tensor]| Tensor::cat(parts, 0).to_kind(Kind::Int);
        let places = &rows.starts + &rows.positions;
        let any = rows.starts.narrow(0, 0, 1);
        let (cos, sin) = (&view.tables.cos, &view.tables.sin);
        let half = sin.size()[1] / 2;
        let sin = Tensor::cat(
            &[sin.narrow(1, 0, half).neg(), sin.narrow(1, half, half)],
            1,
        );
        Self {
            asked: Tensor::arange(2 * count + 1, (Kind::Int, rows.ids.device())),
            starts: narrow(&[&rows.prompt_starts, &rows.starts, &any]),
            lengths: narrow(&[&rows.prompt_lengths, &(&rows.positions + 1)]),
            places,
            cos: cos.unsqueeze(1),
            sin: sin.unsqueeze(1),
            view,
        }
    }

    fn eps(&self) -> f64 {
        self.view.model.config.rms_norm_eps
    }
}

impl DecodeOps for FlashOps<'_> {
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError> {
        let size = weight.size();
        Ok(x.internal_fused_rms_norm(size, Some(weight), self.eps()).0)
    }

    fn rotate_and_store(&self, index: usize, qkv: &Tensor) -> Result<Tensor, ModelError> {
        let attention = &self.view.model.blocks[index].attention;
        let HeadCounts { q, kv, dim } = attention.heads;
        let all = qkv.view([-1, q + 2 * kv, dim]);
        let normed = match &attention.norms {
            None => all.shallow_clone(),
            Some(norms) => {
                let normed = all
                    .internal_fused_rms_norm(dim, None::<&Tensor>, self.eps())
                    .0;
                let _ = normed.narrow(1, 0, q).g_mul_(&norms.q);
                let _ = normed.narrow(1, q, kv).g_mul_(&norms.k);
                normed
            }
        };
        let swapped = normed.roll(dim / 2, 2);
        let first = |x: &Tensor| x.narrow(1, 0, q + kv);
        let turned = first(&normed) * &self.cos;
        let _ = turned.addcmul_out(&first(&all), &first(&swapped), &self.sin);
        let new = all.narrow(1, q, 2 * kv).transpose(0, 1);
        let _ = self.view.cache.both[index]
            .shallow_clone()
            .index_copy_(1, &self.places, &new);
        Ok(all.narrow(1, 0, q))
    }

    fn attend(&self, index: usize, q: &Tensor) -> Result<Tensor, ModelError> {
        let cache = self.view.cache;
        let (n, heads, dim) = q.size3()?;
        let (mixed, lse) = flash_attention(FlashArgs {
            q: &Tensor::cat(&[q, q], 0),
            k: &cache.keys[index].transpose(0, 1),
            v: &cache.values[index].transpose(0, 1),
            queries: PackedRows {
                starts: &self.asked,
                longest: 1,
            },
            keys: PackedRows {
                starts: &self.starts,
                longest: self.view.rows.most_rows,
            },
            key_lengths: Some(&self.lengths),
            causal: false,
        })?;
        let shares = lse.view([heads, 2, n]).softmax(1, None);
        let shares = shares.permute([1, 2, 0]).unsqueeze(-1);
        let parts = mixed.view([2, n, heads, dim]);
        // In the log-sum-exps' kind, rounded once.
        let whole = Tensor::empty([n, heads, dim], (q.kind(), q.device()));
        let of_prompts = parts.get(0) * shares.get(0);
        let _ = of_prompts.addcmul_out(&whole, &parts.get(1), &shares.get(1));
        Ok(whole.view([n, heads * dim]))
    }

    fn add_norm(
        &self,
        (map, input): (&Projection, &Tensor),
        x: Tensor,
        weight: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let sum = map.forward_onto(input, AdapterPass::ON, x);
        Ok((self.norm(&sum, weight)?, sum))
    }

    fn gate(&self, gate_up: &Tensor) -> Result<Tensor, ModelError> {
        Ok(gated(gate_up))
    }
}
