//! SigLIP and SigLIP 2 of fixed resolution in Hugging Face layout, after transformers' `SiglipModel`, or one
//! of its towers: a vision tower with attention pooling, a text tower that reads the last place of 64.
//!
//! Left out: NaFlex (model type `siglip2`), whose pictures keep their shape.

use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use super::block::{AttentionMask, BlockShape, EncoderBlock, LayerNorm, full, patches};
use super::clip::{block_shape, blocks};
use super::section::Section;
use super::text::TextRules;
use super::to_device::each_tensor;
use super::towers::Towers;
use super::types::check_output;
use crate::ModelError;
use crate::image::{HALF, ImageProcessor};
use crate::layers::Activation;
use crate::linear::Linear;
use crate::weights::Weights;

each_tensor! {
    Siglip { vision, text }
    SiglipVision { patch, positions, blocks, after, head }
    PoolingHead { probe, query, key_value, out, norm, fc1, fc2 }
    SiglipText { tokens, positions, blocks, after, head }
}

/// The towers that are there and what comes before them.
#[derive(Debug)]
pub struct Siglip {
    pub(super) processor: Option<ImageProcessor>,
    pub(super) rules: Option<TextRules>,
    vision: Option<SiglipVision>,
    text: Option<SiglipText>,
}

#[derive(Debug)]
struct SiglipVision {
    patch: Linear,
    positions: Tensor,
    blocks: Vec<EncoderBlock>,
    after: LayerNorm,
    head: PoolingHead,
}

/// One learnt query over all patches, then a feed-forward; keys and values alone may be in half precision.
#[derive(Debug)]
struct PoolingHead {
    probe: Tensor,
    query: Linear,
    key_value: Linear,
    out: Linear,
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    shape: BlockShape,
}

#[derive(Debug)]
struct SiglipText {
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<EncoderBlock>,
    after: LayerNorm,
    head: Linear,
}

/// What both towers' blocks are where the configuration is silent.
const DEFAULT: BlockShape = BlockShape {
    width: 768,
    inner: 3072,
    heads: 12,
    eps: 1e-6,
    activation: Activation::GeluTanh,
};

impl Siglip {
    pub(super) fn load(
        folder: &Path,
        config: &Section,
        towers: Towers,
        mut weights: Weights,
    ) -> Result<Self, ModelError> {
        towers.name(&mut weights);
        let mut made = Self {
            processor: None,
            rules: None,
            vision: None,
            text: None,
        };
        if towers.see() {
            let own = towers.section(config, "vision_config")?;
            let (vision, processor) = SiglipVision::load(folder, &own, &mut weights)?;
            (made.vision, made.processor) = (Some(vision), Some(processor));
        }
        if towers.read() {
            let own = towers.section(config, "text_config")?;
            let (text, rules) = SiglipText::load(&own, &mut weights)?;
            (made.text, made.rules) = (Some(text), Some(rules));
        }
        weights.finish(|name| {
            matches!(name, "logit_scale" | "logit_bias") || name.ends_with(".position_ids")
        })?;
        Ok(made)
    }

    /// `pixels [N, 3, S, S]` to `[N, D]`, not normalised; none without the tower.
    pub(super) fn embed_images(&self, pixels: &Tensor) -> Option<Tensor> {
        Some(self.vision.as_ref()?.forward(pixels))
    }

    /// `ids [N, T]`; the feature is the last place's, padding or not. `[N, D]`, not normalised; none without
    /// the tower.
    pub(super) fn embed_tokens(&self, ids: &Tensor) -> Option<Tensor> {
        Some(self.text.as_ref()?.forward(ids))
    }
}

impl SiglipText {
    fn load(config: &Section, weights: &mut Weights) -> Result<(Self, TextRules), ModelError> {
        let shape = block_shape(config, DEFAULT)?;
        let (vocab, positions) = (
            config.int("vocab_size", 32_000)?,
            config.int("max_position_embeddings", 64)?,
        );
        let width = shape.width;
        let projection = config.int("projection_size", width)?;
        let name = |part: &str| format!("text_model.{part}");
        let made = Self {
            tokens: weights.take(&name("embeddings.token_embedding.weight"), &[vocab, width]),
            positions: weights.wide(
                &name("embeddings.position_embedding.weight"),
                &[positions, width],
            ),
            blocks: blocks(
                weights,
                "text_model",
                shape,
                config.blocks("num_hidden_layers", 12)?,
            ),
            after: LayerNorm::take(weights, &name("final_layer_norm"), width, shape.eps),
            head: Linear::wide(weights, &name("head"), [projection, width], true),
        };
        let rules = TextRules {
            vocab,
            longest: positions,
            pad: Some(config.id("pad_token_id", 1)?),
            clean: false,
            clip: false,
        };
        Ok((made, rules))
    }

    fn forward(&self, ids: &Tensor) -> Tensor {
        let rows = ids.size()[1];
        let x = full(&Tensor::embedding(&self.tokens, ids, -1, false, false))
            + self.positions.narrow(0, 0, rows);
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(&x, AttentionMask::Full));
        self.head
            .forward(&self.after.forward(&x.select(1, rows - 1)))
    }
}

impl SiglipVision {
    fn load(
        folder: &Path,
        config: &Section,
        weights: &mut Weights,
    ) -> Result<(Self, ImageProcessor), ModelError> {
        config.only("num_channels", json!(3))?;
        config.only("vision_use_head", json!(true))?;
        let (image, patch) = (
            config.side("image_size", 224)?,
            config.side("patch_size", 16)?,
        );
        let side = image as usize;
        let default = ImageProcessor::square(side, svg::Filter::Bicubic, Some(HALF));
        let processor = ImageProcessor::read(Some(folder), default)?;
        check_output(folder, &processor, side)?;
        let shape = block_shape(config, DEFAULT)?;
        let width = shape.width;
        let name = |part: &str| format!("vision_model.{part}");
        let layers = config.blocks("num_hidden_layers", 12)?;
        let made = Self {
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
            after: LayerNorm::take(weights, &name("post_layernorm"), width, shape.eps),
            head: PoolingHead::take(weights, shape),
        };
        Ok((made, processor))
    }

    fn forward(&self, pixels: &Tensor) -> Tensor {
        let x = patches(pixels, &self.patch.weight, self.patch.bias.as_ref()) + &self.positions;
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(&x, AttentionMask::Full));
        self.head.forward(&self.after.forward(&x))
    }
}

impl PoolingHead {
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
            out: Linear::wide(weights, &name("attention.out_proj"), [width, width], true),
            norm: LayerNorm::take(weights, &name("layernorm"), width, eps),
            fc1: Linear::wide(weights, &name("mlp.fc1"), [inner, width], true),
            fc2: Linear::wide(weights, &name("mlp.fc2"), [width, inner], true),
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
