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
    /// The slot of each row, `[n]` int64, all different.
    pub slots: Tensor,
    /// Place of the token, `[n]` int64: the number of rows the slot holds before this step.
    pub positions: Tensor,
    /// Its rotary position, `[n]` int64; another where the prompt shows pictures.
    pub turns: Tensor,
    /// The largest position.
    pub longest: i64,
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
        for (cache, new) in [(&mut self.keys[index], &k), (&mut self.values[index], &v)] {
            let mut by_position = cache.transpose(1, 2);
            let _ = by_position.index_put_(&[Some(&rows.slots), Some(&rows.positions)], new, false);
        }
        let mixed = attend(&q, &self.keys[index], &self.values[index], rows);
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
            let (k, v) = (&self.keys[index], &self.values[index]);
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
            let mixed = torch_ext::decode_attention(&q, k, v, &rows.slots, &lengths)?;
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
}

/// One query `[n, Hq, D]` per row over its slot's rows: two batched products and a softmax.
fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, rows: &DecodeRows) -> Tensor {
    let (n, heads, dim) = (q.size()[0], q.size()[1], q.size()[2]);
    let (kv_heads, span) = (keys.size()[1], rows.longest + 1);
    let gather = |cache: &Tensor| cache.i((.., .., ..span)).index_select(0, &rows.slots);
    let (keys, values) = (gather(keys), gather(values));
    let q = q.view([n, kv_heads, heads / kv_heads, dim]);
    let kind = q.kind();
    let scores = q.matmul(&keys.transpose(2, 3)).to_kind(reduce_kind(kind)) / (dim as f64).sqrt();
    let beyond = Tensor::arange(span, (Kind::Int64, q.device()))
        .unsqueeze(0)
        .gt_tensor(&rows.positions.unsqueeze(1))
        .view([n, 1, 1, span]);
    let weights = scores
        .masked_fill(&beyond, f64::NEG_INFINITY)
        .softmax(-1, None)
        .to_kind(kind);
    weights.matmul(&values).reshape([n, heads * dim])
}
