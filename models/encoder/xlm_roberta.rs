//! XLM-RoBERTa in Hugging Face layout, as BGE-M3 uses it: the first token of the last layer, or the mean
//! of all; and as BERTScore does: every token of a layer in the middle. After transformers'
//! `XLMRobertaModel`; the norms stand behind the sums.
//!
//! Left out: the pooler, the language-model head, BGE-M3's sparse and multi-vector heads.

use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use super::block::{AttentionMask, BlockShape, LayerNorm, SelfAttention, full, length_mask};
use super::clip::block_shape;
use super::section::Section;
use super::text::TextRules;
use super::to_device::each_tensor;
use super::types::Pooling;
use crate::ModelError;
use crate::layers::Activation;
use crate::linear::Linear;
use crate::weights::Weights;

each_tensor! {
    XlmRoberta { words, places, norm, layers }
    XlmRobertaLayer { attention, norm1, fc1, fc2, norm2 }
}

/// The network and its text rules.
#[derive(Debug)]
pub struct XlmRoberta {
    pub(super) rules: TextRules,
    words: Tensor,
    /// Positions, the first token type's row added.
    places: Tensor,
    norm: LayerNorm,
    layers: Vec<XlmRobertaLayer>,
    /// Positions start behind this id.
    pad: i64,
}

#[derive(Debug)]
struct XlmRobertaLayer {
    attention: SelfAttention,
    norm1: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    norm2: LayerNorm,
    activation: Activation,
}

impl XlmRoberta {
    pub(super) fn load(
        folder: &Path,
        config: &Section,
        mut weights: Weights,
    ) -> Result<Self, ModelError> {
        config.only("position_embedding_type", json!("absolute"))?;
        config.only("is_decoder", json!(false))?;
        config.only("add_cross_attention", json!(false))?;
        let shape = block_shape(
            config,
            BlockShape {
                width: 768,
                inner: 3072,
                heads: 12,
                eps: 1e-12,
                activation: Activation::Gelu,
            },
        )?;
        let width = shape.width;
        let (vocab, positions) = (
            config.int("vocab_size", 30_522)?,
            config.int("max_position_embeddings", 512)?,
        );
        let pad = config.id("pad_token_id", 1)?;
        let longest = positions - pad - 1;
        if pad < 0 || longest < 2 {
            return Err(config.bad(
                "max_position_embeddings",
                format!("must be at least pad_token_id + 3, got {positions}"),
            ));
        }
        weights.rename(|name| name.strip_prefix("roberta.").unwrap_or(name).to_owned());
        let types = config.int("type_vocab_size", 2)?;
        let first_type = weights
            .wide("embeddings.token_type_embeddings.weight", &[types, width])
            .get(0);
        let made = Self {
            rules: TextRules {
                vocab,
                longest: super::text::model_max_length(folder)?
                    .map_or(longest, |own| own.min(longest)),
                pad: None,
                clean: false,
                clip: false,
            },
            words: weights.take("embeddings.word_embeddings.weight", &[vocab, width]),
            places: weights.wide("embeddings.position_embeddings.weight", &[positions, width])
                + first_type,
            norm: LayerNorm::take(&mut weights, "embeddings.LayerNorm", width, shape.eps),
            layers: (0..config.blocks("num_hidden_layers", 12)?)
                .map(|index| {
                    XlmRobertaLayer::take(&mut weights, &format!("encoder.layer.{index}"), shape)
                })
                .collect(),
            pad,
        };
        weights.finish(|name| {
            name.ends_with("position_ids")
                || name.starts_with("pooler.")
                || name.starts_with("lm_head.")
        })?;
        Ok(made)
    }

    /// `ids [N, T]`, row n ending at `lengths[n]`, to `[N, width]`, not normalised.
    pub(super) fn embed_tokens(&self, ids: &Tensor, lengths: &[i64], pool: Pooling) -> Tensor {
        let hidden = self.hidden(ids, lengths, self.layers.len());
        match pool {
            Pooling::Cls => hidden.select(1, 0),
            Pooling::Mean => {
                let width = ids.size()[1];
                let mask = length_mask(lengths, width, (hidden.kind(), hidden.device()));
                let kept = mask.exp().view([-1, width, 1]);
                (hidden * &kept).sum_dim_intlist([1i64].as_slice(), false, None)
                    / kept.sum_dim_intlist([1i64].as_slice(), false, None)
            }
        }
    }

    /// How many layers there are.
    pub(super) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Numbers of a token's feature.
    pub(super) fn width(&self) -> usize {
        self.words.size()[1] as usize
    }

    /// What comes out of layer `depth`, counted from 1, `[N, T, width]`; rows behind a length mean
    /// nothing.
    pub(super) fn hidden(&self, ids: &Tensor, lengths: &[i64], depth: usize) -> Tensor {
        let rows = ids.size()[1];
        let words = full(&Tensor::embedding(&self.words, ids, -1, false, false));
        // Positions count the ids that are no padding, which a text may hold as well; padding has its own.
        let counted = ids.ne(self.pad).to_kind(Kind::Int64);
        let positions = counted.cumsum(1, Kind::Int64) * &counted + self.pad;
        let places = Tensor::embedding(&self.places, &positions, -1, false, false);
        let x = self.norm.forward(&(words + places));
        // Added to what the attention's matrices give.
        let place = (self.words.kind(), x.device());
        let mask = lengths
            .iter()
            .any(|&length| length < rows)
            .then(|| length_mask(lengths, rows, place));
        let sight = mask
            .as_ref()
            .map_or(AttentionMask::Full, AttentionMask::Masked);
        self.layers
            .iter()
            .take(depth)
            .fold(x, |x, layer| layer.forward(&x, sight))
    }
}

impl XlmRobertaLayer {
    fn take(weights: &mut Weights, prefix: &str, shape: BlockShape) -> Self {
        let BlockShape {
            width,
            inner,
            heads,
            eps,
            activation,
        } = shape;
        let name = |part: &str| format!("{prefix}.{part}");
        let qkv = ["query", "key", "value"].map(|part| {
            Linear::take(
                weights,
                &name(&format!("attention.self.{part}")),
                [width, width],
                true,
            )
        });
        Self {
            attention: SelfAttention {
                qkv: Linear::fused(&qkv),
                out: Linear::take(
                    weights,
                    &name("attention.output.dense"),
                    [width, width],
                    true,
                ),
                heads,
            },
            norm1: LayerNorm::take(weights, &name("attention.output.LayerNorm"), width, eps),
            fc1: Linear::take(weights, &name("intermediate.dense"), [inner, width], true),
            fc2: Linear::take(weights, &name("output.dense"), [width, inner], true),
            norm2: LayerNorm::take(weights, &name("output.LayerNorm"), width, eps),
            activation,
        }
    }

    fn forward(&self, x: &Tensor, sight: AttentionMask) -> Tensor {
        let x = self.norm1.forward(&(self.attention.forward(x, sight) + x));
        let inner = self.activation.apply(&self.fc1.forward(&x));
        self.norm2.forward(&(self.fc2.forward(&inner) + x))
    }
}
