//! One decoding step: one new token per row over the cache.
//!
//! On the CPU in float32 the steps between the matrix products run fused, since at a handful of
//! rows the time goes into starting operators; elsewhere plain operators do the same arithmetic.

use tch::{Device, IndexOp, Kind, Tensor};

use crate::ModelError;
use crate::cache::KvCache;
use crate::decoder::Decoder;
use crate::layers::{reduce_kind, rms_norm, rotate};

/// The rows of one decoding step.
pub struct DecodeRows {
    /// Token fed to each row, `[n]` int64.
    pub ids: Tensor,
    /// The page of each row's prompt, `[n]` int64.
    pub pages: Tensor,
    /// The length of that prompt, `[n]` int64.
    pub prompts: Tensor,
    /// The slot of each row, `[n]` int64, all different.
    pub slots: Tensor,
    /// Place of the token in the slot, `[n]` int64: how many were generated and fed before it.
    pub positions: Tensor,
    /// Its rotary position, `[n]` int64.
    pub turns: Tensor,
    /// The longest prompt, and the largest position.
    pub longest: (i64, i64),
}

impl KvCache {
    /// Feeds one token to each row; returns the hidden rows `[n, H]` that predict the next.
    ///
    /// # Errors
    /// The fused kernels refusing a shape.
    pub fn decode(&mut self, model: &Decoder, rows: &DecodeRows) -> Result<Tensor, ModelError> {
        let tables = model.tables(&rows.turns);
        if model.device() == Device::Cpu && model.kind() == Kind::Float {
            return self.decode_fused(model, rows, &tables);
        }
        let mut x = model.embed(&rows.ids);
        for index in 0..model.num_blocks() {
            x = self.decode_block(model, index, &x, (rows, &tables));
        }
        Ok(model.finish(&x))
    }

    fn decode_block(
        &mut self,
        model: &Decoder,
        index: usize,
        x: &Tensor,
        (rows, tables): (&DecodeRows, &(Tensor, Tensor)),
    ) -> Tensor {
        let block = &model.blocks[index];
        let eps = model.config.rms_norm_eps;
        let (q, k, v) = model.project(&block.attention, &rms_norm(x, &block.input_norm, eps));
        let (q, k) = (rotate(&q, tables), rotate(&k, tables));
        for (cache, new) in [
            (&mut self.own.keys[index], &k),
            (&mut self.own.values[index], &v),
        ] {
            let mut by_position = cache.transpose(1, 2);
            let _ = by_position.index_put_(&[Some(&rows.slots), Some(&rows.positions)], new, false);
        }
        let mixed = attend(&q, self.gather(index, rows), rows);
        let x = x + mixed.linear(&block.attention.out, None::<&Tensor>);
        let normed = rms_norm(&x, &block.post_norm, eps);
        x + model.feed_forward(block, &normed)
    }

    fn decode_fused(
        &mut self,
        model: &Decoder,
        rows: &DecodeRows,
        tables: &(Tensor, Tensor),
    ) -> Result<Tensor, ModelError> {
        let eps = model.config.rms_norm_eps as f32;
        let lengths = &rows.positions + 1;
        let n = rows.ids.size()[0];
        let mut x = model.embed(&rows.ids);
        let mut normed = torch_ext::rms_norm(&x, &model.blocks[0].input_norm, eps)?;
        for (index, block) in model.blocks.iter().enumerate() {
            let attention = &block.attention;
            let (k, v) = (&self.own.keys[index], &self.own.values[index]);
            let q = torch_ext::fused_qkv_post(torch_ext::QkvPost {
                qkv: &normed.linear(&attention.qkv, attention.bias.as_ref()),
                norms: attention
                    .norms
                    .as_ref()
                    .map(|(q, k)| torch_ext::HeadNorms { q, k, eps }),
                rotation: torch_ext::Rotation {
                    cos: &tables.0,
                    sin: &tables.1,
                },
                cache: torch_ext::CachePlaces {
                    k,
                    v,
                    slots: &rows.slots,
                    positions: &rows.positions,
                },
            })?;
            let prompts = torch_ext::CachedRows {
                k: &self.prompts.keys[index],
                v: &self.prompts.values[index],
                slots: &rows.pages,
                lengths: &rows.prompts,
            };
            let own = torch_ext::CachedRows {
                k,
                v,
                slots: &rows.slots,
                lengths: &lengths,
            };
            let mixed = torch_ext::decode_attention(&q, prompts, own)?;
            let mixed = mixed.view([n, -1]).linear(&attention.out, None::<&Tensor>);
            (normed, x) = torch_ext::add_rms_norm(&mixed, &x, &block.post_norm, eps)?;
            let wide = torch_ext::silu_mul(&normed.linear(&block.gate_up, None::<&Tensor>))?;
            let fed = wide.linear(&block.down, None::<&Tensor>);
            let next = model
                .blocks
                .get(index + 1)
                .map_or(&model.norm, |block| &block.input_norm);
            (normed, x) = torch_ext::add_rms_norm(&fed, &x, next, eps)?;
        }
        Ok(normed)
    }

    /// Keys and values of each row, `[n, Hkv, P + L, D]`: its prompt's to the longest one, then its
    /// own.
    fn gather(&self, block: usize, rows: &DecodeRows) -> [Tensor; 2] {
        let (prompt, own) = (rows.longest.0, rows.longest.1 + 1);
        let both = |prompts: &Tensor, slots: &Tensor| {
            let prompts = prompts.i((.., .., ..prompt)).index_select(0, &rows.pages);
            let slots = slots.i((.., .., ..own)).index_select(0, &rows.slots);
            Tensor::cat(&[prompts, slots], 2)
        };
        [
            both(&self.prompts.keys[block], &self.own.keys[block]),
            both(&self.prompts.values[block], &self.own.values[block]),
        ]
    }
}

/// One query `[n, Hq, D]` per row over its keys and values: two batched products and a softmax.
fn attend(q: &Tensor, [keys, values]: [Tensor; 2], rows: &DecodeRows) -> Tensor {
    let (n, heads, dim) = (q.size()[0], q.size()[1], q.size()[2]);
    let kv_heads = keys.size()[1];
    let q = q.view([n, kv_heads, heads / kv_heads, dim]);
    let kind = q.kind();
    let scores = q.matmul(&keys.transpose(2, 3)).to_kind(reduce_kind(kind)) / (dim as f64).sqrt();
    let count = |len: i64| Tensor::arange(len, (Kind::Int64, q.device())).unsqueeze(0);
    let beyond = Tensor::cat(
        &[
            count(rows.longest.0).ge_tensor(&rows.prompts.unsqueeze(1)),
            count(rows.longest.1 + 1).gt_tensor(&rows.positions.unsqueeze(1)),
        ],
        1,
    );
    let weights = scores
        .masked_fill(&beyond.view([n, 1, 1, -1]), f64::NEG_INFINITY)
        .softmax(-1, None)
        .to_kind(kind);
    weights.matmul(&values).reshape([n, heads * dim])
}
