//! A policy's weights by the names of its checkpoint, a block at a time; adapters merged into them.

use models::{Decoder, ParamSpec};
use tch::Tensor;

use crate::RolloutError;

/// Named tensors that are handed out block by block, so that no second copy of all is ever held.
pub trait WeightBlocks {
    /// Number of blocks.
    fn blocks(&self) -> usize;

    /// Hands the tensors of block `index` (name in the checkpoint, values) to `take`, in order.
    ///
    /// # Errors
    /// Those of `take`.
    fn block(
        &self,
        index: usize,
        take: &mut dyn FnMut(&str, &Tensor) -> Result<(), RolloutError>,
    ) -> Result<(), RolloutError>;
}

/// A block is a transformer layer; what lies between layers goes tensor by tensor.
impl WeightBlocks for Decoder {
    fn blocks(&self) -> usize {
        by_layer(self.params.specs()).count()
    }

    fn block(
        &self,
        index: usize,
        take: &mut dyn FnMut(&str, &Tensor) -> Result<(), RolloutError>,
    ) -> Result<(), RolloutError> {
        for spec in by_layer(self.params.specs()).nth(index).unwrap_or_default() {
            take(&spec.name, &self.weight(spec))?;
        }
        Ok(())
    }
}

/// A policy's weights without the adapters that stand beside them.
pub(super) struct Unadapted<'a>(pub(super) &'a Decoder);

impl WeightBlocks for Unadapted<'_> {
    fn blocks(&self) -> usize {
        self.0.blocks()
    }

    fn block(
        &self,
        index: usize,
        take: &mut dyn FnMut(&str, &Tensor) -> Result<(), RolloutError>,
    ) -> Result<(), RolloutError> {
        let params = &self.0.params;
        for spec in by_layer(params.specs()).nth(index).unwrap_or_default() {
            take(&spec.name, &params.view(spec))?;
        }
        Ok(())
    }
}

fn by_layer(specs: &[ParamSpec]) -> impl Iterator<Item = &[ParamSpec]> {
    specs.chunk_by(|a, b| layer(&a.name) == layer(&b.name))
}

/// A name up to its first number: `model.layers.3` of `model.layers.3.mlp.down_proj.weight`.
fn layer(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if part.parse::<usize>().is_ok() {
            return &name[..end];
        }
        end += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_layers_and_single_tensors_in_the_checkpoint_s_order() {
        let names = [
            "model.embed_tokens.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.mlp.down_proj.weight",
            "model.layers.1.input_layernorm.weight",
            "model.layers.10.input_layernorm.weight",
            "model.norm.weight",
        ];
        let blocks = names.chunk_by(|a, b| layer(a) == layer(b));
        let sizes: Vec<usize> = blocks.map(<[&str]>::len).collect();
        assert_eq!(sizes, [1, 2, 1, 1, 1]);
    }
}
