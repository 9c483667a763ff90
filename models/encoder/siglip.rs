//! SigLIP and SigLIP 2 of fixed resolution in Hugging Face layout, after transformers' `SiglipModel`:
//! a vision tower with attention pooling, a text tower that reads the last place of 64.
//!
//! Left out: NaFlex (model type `siglip2`), whose pictures keep their shape.

use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use super::block::{Activation, Block, BlockShape, Linear, Norm, Sight, full, patches};
use super::carry::carried;
use super::clip::{block_shape, blocks};
use super::section::Section;
use super::text::TextRules;
use crate::ModelError;
use crate::image::{HALF, ImageProcessor};
use crate::weights::Weights;

carried! {
    Siglip { vision, text }
    Vision { patch, positions, blocks, after, head }
    Head { probe, query, key_value, out, norm, fc1, fc2 }
    Text { tokens, positions, blocks, after, head }
}

/// Both towers and what comes before them.
#[derive(Debug)]
pub struct Siglip {
    pub(super) processor: ImageProcessor,
    pub(super) rules: TextRules,
    vision: Vision,
    text: Text,
}

#[derive(Debug)]
struct Vision {
    patch: Linear,
    positions: Tensor,
    blocks: Vec<Block>,
    after: Norm,
    head: Head,
}

/// One learnt query over all patches, then a feed-forward; keys and values alone may be in half precision.
#[derive(Debug)]
struct Head {
    probe: Tensor,
    query: Linear,
    key_value: Linear,
    out: Linear,
    norm: Norm,
    fc1: Linear,
    fc2: Linear,
    shape: BlockShape,
}

#[derive(Debug)]
struct Text {
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    after: Norm,
    head: Linear,
}

impl Siglip {
    pub(super) fn load(
        folder: &Path,
        config: &Section,
        mut weights: Weights,
    ) -> Result<Self, ModelError> {
        let (text, vision) = (config.inner("text_config")?, config.inner("vision_config")?);
        let default = BlockShape {
            width: 768,
            inner: 3072,
            heads: 12,
            eps: 1e-6,
            activation: Activation::GeluTanh,
        };
        vision.only("num_channels", json!(3))?;
        vision.only("vision_use_head", json!(true))?;
        let (image, patch) = (
            vision.side("image_size", 224)?,
            vision.side("patch_size", 16)?,
        );
        let side = image as usize;
        let default_processor = ImageProcessor::square(side, svg::Filter::Bicubic, Some(HALF));
        let processor = ImageProcessor::read(Some(folder), default_processor)?;
        super::check_output(folder, &processor, side)?;
        let (vision_shape, text_shape) =
            (block_shape(&vision, default)?, block_shape(&text, default)?);
        let (vocab, positions) = (
            text.int("vocab_size", 32_000)?,
            text.int("max_position_embeddings", 64)?,
        );
        let width = text_shape.width;
        let projection = text.int("projection_size", width)?;
        let made = Self {
            processor,
            rules: TextRules {
                vocab,
                longest: positions,
                pad: Some(text.id("pad_token_id", 1)?),
                clean: false,
            },
            vision: Vision::take(
                &mut weights,
                vision_shape,
                (image, patch),
                vision.int("num_hidden_layers", 12)?,
            ),
            text: Text {
                tokens: weights.take(
                    "text_model.embeddings.token_embedding.weight",
                    &[vocab, width],
                ),
                positions: weights.wide(
                    "text_model.embeddings.position_embedding.weight",
                    &[positions, width],
                ),
                blocks: blocks(
                    &mut weights,
                    "text_model",
                    text_shape,
                    text.int("num_hidden_layers", 12)?,
                ),
                after: Norm::take(
                    &mut weights,
                    "text_model.final_layer_norm",
                    width,
                    text_shape.eps,
                ),
                head: Linear::wide(&mut weights, "text_model.head", (projection, width), true),
            },
        };
        weights.finish(|name| {
            matches!(name, "logit_scale" | "logit_bias") || name.ends_with(".position_ids")
        })?;
        Ok(made)
    }

    /// `pixels [N, 3, S, S]` to `[N, D]`, not normalised.
    pub(super) fn embed_images(&self, pixels: &Tensor) -> Tensor {
        self.vision.forward(pixels)
    }

    /// `ids [N, T]`; the feature is the last place's, padding or not. `[N, D]`, not normalised.
    pub(super) fn embed_tokens(&self, ids: &Tensor) -> Tensor {
        let text = &self.text;
        let rows = ids.size()[1];
        let x = full(&Tensor::embedding(&text.tokens, ids, -1, false, false))
            + text.positions.narrow(0, 0, rows);
        let x = text
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(&x, Sight::Full));
        text.head
            .forward(&text.after.forward(&x.select(1, rows - 1)))
    }
}

impl Vision {
    fn take(
        weights: &mut Weights,
        shape: BlockShape,
        (image, patch): (i64, i64),
        layers: i64,
    ) -> Self {
        let width = shape.width;
        let name = |part: &str| format!("vision_model.{part}");
        Self {
            patch: Linear {
                weight: weights.wide(
                    &name("embeddings.patch_embedding.weight"),
                    &[width, 3, patch, patch],
                ),
                bias: Some(weights.wide(&name("embeddings.patch_embedding.bias"), &[width])),
            },
            positions: weights.wide(
                &name("embeddings.position_embedding.weight"),
                &[(image / patch).pow(2), width],
            ),
            blocks: blocks(weights, "vision_model", shape, layers),
            after: Norm::take(weights, &name("post_layernorm"), width, shape.eps),
            head: Head::take(weights, shape),
        }
    }

    fn forward(&self, pixels: &Tensor) -> Tensor {
        let x = patches(pixels, &self.patch.weight, self.patch.bias.as_ref()) + &self.positions;
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(&x, Sight::Full));
        self.head.forward(&self.after.forward(&x))
    }
}

impl Head {
    fn take(weights: &mut Weights, shape: BlockShape) -> Self {
        let BlockShape {
            width, inner, eps, ..
        } = shape;
        let name = |part: &str| format!("vision_model.head.{part}");
        let weight = weights.wide(&name("attention.in_proj_weight"), &[3 * width, width]);
        let bias = weights.wide(&name("attention.in_proj_bias"), &[3 * width]);
        let rows = |from: i64, count: i64, kind: Kind| Linear {
            weight: weight.narrow(0, from, count).to_kind(kind),
            bias: Some(bias.narrow(0, from, count).to_kind(kind)),
        };
        Self {
            probe: weights.wide(&name("probe"), &[1, 1, width]),
            query: rows(0, width, weight.kind()),
            key_value: rows(width, 2 * width, weights.place().0),
            out: Linear::wide(weights, &name("attention.out_proj"), (width, width), true),
            norm: Norm::take(weights, &name("layernorm"), width, eps),
            fc1: Linear::wide(weights, &name("mlp.fc1"), (inner, width), true),
            fc2: Linear::wide(weights, &name("mlp.fc2"), (width, inner), true),
            shape,
        }
    }

    /// `x [N, T, H]` to `[N, H]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (batch, rows, width) = x.size3().expect("a batch of patches");
        let (heads, dim) = (self.shape.heads, width / self.shape.heads);
        let probe = self.probe.expand([batch, 1, width], false);
        let q = self
            .query
            .forward(&probe)
            .view([batch, 1, heads, dim])
            .transpose(1, 2);
        let kv = full(&self.key_value.forward(x))
            .view([batch, rows, 2, heads, dim])
            .permute([2, 0, 3, 1, 4]);
        let mixed = Tensor::scaled_dot_product_attention(
            &q,
            &kv.get(0),
            &kv.get(1),
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        );
        let pooled = self
            .out
            .forward(&mixed.transpose(1, 2).reshape([batch, width]));
        let inner = self
            .shape
            .activation
            .apply(&self.fc1.forward(&self.norm.forward(&pooled)));
        self.fc2.forward(&inner) + pooled
    }
}
