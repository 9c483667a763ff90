//! One decoding step: one new token per row over the cache.

use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::cache::{DecodeRows, KvCache};
use crate::decode_ops::{DecodeOps, FusedOps, PlainOps, StepView};
use crate::decoder::Decoder;
use crate::flash_ops::FlashOps;
use crate::lora::AdapterPass;

impl KvCache {
    /// Feeds one token to each row; returns the hidden rows `[n, H]` that predict the next.
    ///
    /// On the CPU in float32 the steps between the matrix products run fused, since at a handful
    /// of rows the time goes into starting operators. On a GPU with flash attention the cache is read in place.
    ///
    /// # Errors
    /// The fused kernels refusing a shape.
    pub fn decode(&mut self, model: &Decoder, rows: &DecodeRows) -> Result<Tensor, ModelError> {
        let view = StepView {
            model,
            rows,
            tables: model.tables(&rows.position_ids),
            cache: self,
        };
        match (model.device(), model.kind()) {
            (Device::Cpu, Kind::Float) => step(model, rows, &FusedOps::new(view)),
            (Device::Cuda(_), _) if view.cache.in_place => step(model, rows, &FlashOps::new(view)),
            _ => step(model, rows, &PlainOps::new(view)),
        }
    }
}

/// The blocks' arithmetic; a norm is taken together with the sum before it.
fn step(model: &Decoder, rows: &DecodeRows, ops: &impl DecodeOps) -> Result<Tensor, ModelError> {
    let pass = AdapterPass::ON;
    let mut x = model.embed(&rows.ids);
    let mut normed = ops.norm(&x, &model.blocks[0].input_norm)?;
    for (index, block) in model.blocks.iter().enumerate() {
        let attention = &block.attention;
        let q = ops.rotate_and_store(index, &attention.qkv.forward(&normed, pass))?;
        let mixed = ops.attend(index, &q)?;
        (normed, x) = ops.add_norm((&attention.out, &mixed), x, &block.post_norm)?;
        let inner = ops.gate(&block.gate_up.forward(&normed, pass))?;
        let next = model
            .blocks
            .get(index + 1)
            .map_or(&model.norm, |block| &block.input_norm);
        (normed, x) = ops.add_norm((&block.down, &inner), x, next)?;
    }
    Ok(normed)
}
