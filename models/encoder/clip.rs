//! CLIP's two towers, or one of them, in Hugging Face layout, of any text length (Long-CLIP has 248 positions), after
//! transformers' `CLIPModel` and its towers `WithProjection`. OpenAI's own
//! checkpoints are brought into that layout first.

use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use super::block::{AttentionMask, BlockNames, BlockShape, EncoderBlock, LayerNorm, full, patches};
use super::section::Section;
use super::text::TextRules;
use super::to_device::each_tensor;
use super::towers::Towers;
use super::types::check_output;
use crate::ModelError;
use crate::image::{CLIP, ImageProcessor};
use crate::layers::Activation;
use crate::linear::Linear;
use crate::weights::Weights;

each_tensor! {
    Clip { vision, text }
    ClipVision { cls, patch, positions, before, blocks, after, projection }
    ClipText { tokens, positions, blocks, after, projection }
}

/// The towers that are there, their projections, and what comes before them.
#[derive(Debug)]
pub struct Clip {
    pub(super) processor: Option<ImageProcessor>,
    pub(super) rules: Option<TextRules>,
    vision: Option<ClipVision>,
    text: Option<ClipText>,
}

#[derive(Debug)]
struct ClipVision {
    cls: Tensor,
    patch: Tensor,
    positions: Tensor,
    before: LayerNorm,
    blocks: Vec<EncoderBlock>,
    after: LayerNorm,
    projection: Linear,
}

#[derive(Debug)]
struct ClipText {
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<EncoderBlock>,
    after: LayerNorm,
    projection: Linear,
    end: End,
}

/// Which place of a text holds its feature.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The first of this id.
    First(i64),
    /// The first of the largest id: OpenAI's, and folders whose configuration says 2.
    Largest,
}

/// The shape of both towers.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClipShape {
    pub vision: BlockShape,
    pub vision_layers: i64,
    pub image: i64,
    pub patch: i64,
    pub text: BlockShape,
    pub text_layers: i64,
    pub vocab: i64,
    pub positions: i64,
    pub embed: i64,
    /// Id of the token that ends a text; 2 for the largest id whatever it is.
    pub end: i64,
}

/// The pieces of a block under CLIP's and SigLIP's names.
pub(super) const NAMES: BlockNames = BlockNames {
    norm1: "layer_norm1",
    norm2: "layer_norm2",
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.out_proj",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
};

/// Sizes of one tower's blocks, with the family's defaults.
pub(super) fn block_shape(
    section: &Section,
    default: BlockShape,
) -> Result<BlockShape, ModelError> {
    let width = section.int("hidden_size", default.width)?;
    let heads = section.int("num_attention_heads", default.heads)?;
    if width % heads != 0 {
        return Err(section.bad(
            "num_attention_heads",
            format!("must divide hidden_size {width}, got {heads}"),
        ));
    }
    Ok(BlockShape {
        width,
        inner: section.int("intermediate_size", default.inner)?,
        heads,
        eps: section.float("layer_norm_eps", default.eps)?,
        activation: section.activation(default.activation)?,
    })
}

impl ClipShape {
    fn read(config: &Section, towers: Towers) -> Result<Self, ModelError> {
        // Older folders keep what differs from the defaults in `*_config_dict`.
        let section = |name: &str| -> Result<Section, ModelError> {
            Ok(towers
                .section(config, name)?
                .overlaid(config.inner(&format!("{name}_dict"))?))
        };
        let (text, vision) = (section("text_config")?, section("vision_config")?);
        let block = |width, heads| BlockShape {
            width,
            inner: 4 * width,
            heads,
            eps: 1e-5,
            activation: Activation::QuickGelu,
        };
        vision.only("num_channels", json!(3))?;
        Ok(Self {
            vision: block_shape(&vision, block(768, 12))?,
            vision_layers: vision.blocks("num_hidden_layers", 12)?,
            image: vision.side("image_size", 224)?,
            patch: vision.side("patch_size", 32)?,
            text: block_shape(&text, block(512, 8))?,
            text_layers: text.blocks("num_hidden_layers", 12)?,
            vocab: text.int("vocab_size", 49_408)?,
            positions: text.int("max_position_embeddings", 77)?,
            embed: config.int("projection_dim", 512)?,
            end: text.id("eos_token_id", 49_407)?,
        })
    }
}

impl Clip {
    pub(super) fn load(
        folder: Option<&Path>,
        config: &Section,
        towers: Towers,
        mut weights: Weights,
    ) -> Result<Self, ModelError> {
        let shape = ClipShape::read(config, towers)?;
        let side = shape.image as usize;
        let mut processor = None;
        if towers.see() {
            let own = ImageProcessor::read(folder, ImageProcessor::cropping(side, side, CLIP))?;
            check_output(folder.unwrap_or(Path::new("")), &own, side)?;
            processor = Some(own);
        }
        towers.name(&mut weights);
        let made = Self::take(&mut weights, &shape, towers, processor);
        weights.finish(|name| name == "logit_scale" || name.ends_with(".position_ids"))?;
        Ok(made)
    }

    /// Takes the towers; what is left stays with the caller.
    pub(super) fn take(
        weights: &mut Weights,
        shape: &ClipShape,
        towers: Towers,
        processor: Option<ImageProcessor>,
    ) -> Self {
        Self {
            processor,
            rules: towers.read().then_some(TextRules {
                vocab: shape.vocab,
                longest: shape.positions,
                pad: None,
                clean: false,
                clip: true,
            }),
            vision: towers.see().then(|| ClipVision::take(weights, shape)),
            text: towers.read().then(|| ClipText::take(weights, shape)),
        }
    }

    /// `pixels [N, 3, S, S]` to `[N, embed]`, projected, not normalised; none without the tower.
    pub(super) fn embed_images(&self, pixels: &Tensor) -> Option<Tensor> {
        Some(self.vision.as_ref()?.forward(pixels))
    }

    /// `ids [N, T]`, each row ended by its end token and then padded by anything, to `[N, embed]`; none
    /// without the tower.
    pub(super) fn embed_tokens(&self, ids: &Tensor) -> Option<Tensor> {
        Some(self.text.as_ref()?.forward(ids))
    }
}

impl ClipVision {
    fn take(weights: &mut Weights, shape: &ClipShape) -> Self {
        let BlockShape { width, eps, .. } = shape.vision;
        let places = (shape.image / shape.patch).pow(2) + 1;
        let name = |part: &str| format!("vision_model.{part}");
        Self {
            cls: weights.wide(&name("embeddings.class_embedding"), &[width]),
            patch: weights.wide(
                &name("embeddings.patch_embedding.weight"),
                &[width, 3, shape.patch, shape.patch],
            ),
            positions: weights.wide(
                &name("embeddings.position_embedding.weight"),
                &[places, width],
            ),
            // The misspelling is the checkpoints'.
            before: LayerNorm::take(weights, &name("pre_layrnorm"), width, eps),
            blocks: blocks(weights, "vision_model", shape.vision, shape.vision_layers),
            after: LayerNorm::take(weights, &name("post_layernorm"), width, eps),
            projection: Linear::wide(weights, "visual_projection", [shape.embed, width], false),
        }
    }

    fn forward(&self, pixels: &Tensor) -> Tensor {
        let rows = patches(pixels, &self.patch, None);
        let (batch, _, width) = rows.size3().expect("a batch of patches");
        let cls = self.cls.expand([batch, 1, width], false);
        let x = Tensor::cat(&[&cls, &rows], 1) + &self.positions;
        let x = self
            .blocks
            .iter()
            .fold(self.before.forward(&x), |x, block| {
                block.forward(&x, AttentionMask::Full)
            });
        self.projection
            .forward(&self.after.forward(&x.select(1, 0)))
    }
}

impl ClipText {
    fn take(weights: &mut Weights, shape: &ClipShape) -> Self {
        let BlockShape { width, eps, .. } = shape.text;
        let name = |part: &str| format!("text_model.{part}");
        Self {
            tokens: weights.take(
                &name("embeddings.token_embedding.weight"),
                &[shape.vocab, width],
            ),
            positions: weights.wide(
                &name("embeddings.position_embedding.weight"),
                &[shape.positions, width],
            ),
            blocks: blocks(weights, "text_model", shape.text, shape.text_layers),
            after: LayerNorm::take(weights, &name("final_layer_norm"), width, eps),
            projection: Linear::wide(weights, "text_projection", [shape.embed, width], false),
            end: match shape.end {
                2 => End::Largest,
                id => End::First(id),
            },
        }
    }

    fn forward(&self, ids: &Tensor) -> Tensor {
        let rows = ids.size()[1];
        let x = full(&Tensor::embedding(&self.tokens, ids, -1, false, false))
            + self.positions.narrow(0, 0, rows);
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(&x, AttentionMask::Causal));
        let end = match self.end {
            End::First(id) => ids.eq(id).to_kind(Kind::Int),
            End::Largest => ids.to_kind(Kind::Int),
        }
        .argmax(1, false);
        let width = x.size()[2];
        let place = end.view([-1, 1, 1]).expand([-1, 1, width], false);
        let ends = x.gather(1, &place, false).squeeze_dim(1);
        self.projection.forward(&self.after.forward(&ends))
    }
}

/// The blocks of one tower.
pub(super) fn blocks(
    weights: &mut Weights,
    tower: &str,
    shape: BlockShape,
    count: i64,
) -> Vec<EncoderBlock> {
    (0..count)
        .map(|index| {
            EncoderBlock::take(
                weights,
                &format!("{tower}.encoder.layers.{index}"),
                &NAMES,
                shape,
            )
        })
        .collect()
}
