//! DINOv2 in Hugging Face layout, small to giant: after transformers' `Dinov2Model`.
//!
//! Left out: masked patches, registers (another model type), stochastic depth.

use std::path::Path;

use serde_json::json;
use tch::Tensor;

use super::block::{AttentionMask, LayerNorm, SelfAttention, full, patches};
use super::section::{MOST, Section};
use super::to_device::{EachTensor, TensorChange, each_tensor};
use super::types::Pooling;
use crate::ModelError;
use crate::image::{IMAGENET, ImageProcessor};
use crate::layers::Activation;
use crate::linear::Linear;
use crate::weights::Weights;

each_tensor! {
    Dinov2 { cls, positions, patch, layers, norm }
    Dinov2Layer { norm1, attention, scale1, norm2, feed, scale2 }
}

impl EachTensor for Feed {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        let (Self::Plain(inner, _, out) | Self::SwiGlu(inner, out)) = self;
        inner.each_tensor(change);
        out.each_tensor(change);
    }
}

/// The network and its processor.
#[derive(Debug)]
pub struct Dinov2 {
    pub(super) processor: ImageProcessor,
    cls: Tensor,
    positions: Tensor,
    patch: Linear,
    layers: Vec<Dinov2Layer>,
    norm: LayerNorm,
}

#[derive(Debug)]
struct Dinov2Layer {
    norm1: LayerNorm,
    attention: SelfAttention,
    scale1: Tensor,
    norm2: LayerNorm,
    feed: Feed,
    scale2: Tensor,
}

#[derive(Debug)]
enum Feed {
    Plain(Linear, Activation, Linear),
    /// Gate and value in one map, then the way out (giant).
    SwiGlu(Linear, Linear),
}

impl Dinov2 {
    pub(super) fn load(
        folder: Option<&Path>,
        config: &Section,
        mut weights: Weights,
    ) -> Result<Self, ModelError> {
        let width = config.int("hidden_size", 768)?;
        let heads = config.int("num_attention_heads", 12)?;
        if width % heads != 0 {
            return Err(config.bad(
                "num_attention_heads",
                format!("must divide hidden_size {width}, got {heads}"),
            ));
        }
        config.only("num_channels", json!(3))?;
        let (image, patch) = (
            config.side("image_size", 224)?,
            config.side("patch_size", 14)?,
        );
        let eps = config.float("layer_norm_eps", 1e-6)?;
        let inner = (width as f64 * config.float("mlp_ratio", 4.0)?) as i64;
        if !(1..=MOST).contains(&inner) {
            let reason = format!("times hidden_size must be from 1 to {MOST}, is {inner}");
            return Err(config.bad("mlp_ratio", reason));
        }
        let shape = LayerShape {
            width,
            heads,
            eps,
            inner,
            bias: config.flag("qkv_bias", true)?,
            swiglu: config.flag("use_swiglu_ffn", false)?,
            activation: config.activation(Activation::Gelu)?,
        };
        let default = ImageProcessor::cropping(256, 224, IMAGENET);
        let mut processor = ImageProcessor::read(folder, default)?;
        processor.least = patch as usize;
        if let (Some((width, height)), Some(folder)) = (processor.output(), folder)
            && width.min(height) < processor.least
        {
            return Err(ModelError::unsupported(
                folder.join("preprocessor_config.json"),
                "crop_size",
                format!("gives {width}x{height} pixels, less than one patch of {patch}"),
            ));
        }
        weights.rename(|name| name.strip_prefix("dinov2.").unwrap_or(name).to_owned());
        let grid = image / patch;
        let projection = "embeddings.patch_embeddings.projection";
        let made = Self {
            processor,
            cls: weights.wide("embeddings.cls_token", &[1, 1, width]),
            positions: weights.wide(
                "embeddings.position_embeddings",
                &[1, grid * grid + 1, width],
            ),
            patch: Linear {
                weight: weights.wide(&format!("{projection}.weight"), &[width, 3, patch, patch]),
                bias: Some(weights.wide(&format!("{projection}.bias"), &[width])),
            },
            layers: (0..config.blocks("num_hidden_layers", 12)?)
                .map(|index| {
                    Dinov2Layer::take(&mut weights, &format!("encoder.layer.{index}"), &shape)
                })
                .collect(),
            norm: LayerNorm::take(&mut weights, "layernorm", width, eps),
        };
        weights
            .finish(|name| name == "embeddings.mask_token" || name.starts_with("classifier."))?;
        Ok(made)
    }

    /// `pixels [N, 3, H, W]`, sides at least one patch, to `[N, width]`: the class token after the last
    /// norm, or the mean of all tokens, the class token's among them.
    pub(super) fn embed(&self, pixels: &Tensor, pool: Pooling) -> Tensor {
        let hidden = self.hidden(pixels);
        match pool {
            Pooling::Cls => hidden.select(1, 0),
            Pooling::Mean => hidden.mean_dim([1i64].as_slice(), false, None),
        }
    }

    fn hidden(&self, pixels: &Tensor) -> Tensor {
        let rows = patches(pixels, &self.patch.weight, self.patch.bias.as_ref());
        let batch = rows.size()[0];
        let cls = self.cls.expand([batch, 1, -1], false);
        let mut x = Tensor::cat(&[&cls, &rows], 1) + self.places(pixels);
        for layer in &self.layers {
            x = layer.forward(&x);
        }
        self.norm.forward(&x)
    }

    /// Position embeddings `[1, T, H]`, interpolated in float32 where the picture has another size than
    /// the network was made for.
    fn places(&self, pixels: &Tensor) -> Tensor {
        let size = pixels.size();
        let patch = self.patch.weight.size()[2];
        let (height, width) = (size[2] / patch, size[3] / patch);
        let stored = self.positions.size()[1] - 1;
        if height * width == stored && size[2] == size[3] {
            return self.positions.shallow_clone();
        }
        let side = (stored as f64).sqrt() as i64;
        let dim = self.positions.size()[2];
        let grid = self
            .positions
            .narrow(1, 1, stored)
            .reshape([1, side, side, dim])
            .permute([0, 3, 1, 2])
            .to_kind(tch::Kind::Float)
            .upsample_bicubic2d([height, width], false, None, None)
            .to_kind(self.positions.kind())
            .permute([0, 2, 3, 1])
            .reshape([1, height * width, dim]);
        Tensor::cat(&[&self.positions.narrow(1, 0, 1), &grid], 1)
    }
}

struct LayerShape {
    width: i64,
    heads: i64,
    eps: f64,
    inner: i64,
    bias: bool,
    swiglu: bool,
    activation: Activation,
}

impl Dinov2Layer {
    fn take(weights: &mut Weights, prefix: &str, shape: &LayerShape) -> Self {
        let width = shape.width;
        let name = |part: &str| format!("{prefix}.{part}");
        let qkv = ["query", "key", "value"].map(|part| {
            Linear::take(
                weights,
                &name(&format!("attention.attention.{part}")),
                [width, width],
                shape.bias,
            )
        });
        let feed = match shape.swiglu {
            false => Feed::Plain(
                Linear::take(weights, &name("mlp.fc1"), [shape.inner, width], true),
                shape.activation,
                Linear::take(weights, &name("mlp.fc2"), [width, shape.inner], true),
            ),
            true => {
                // Two thirds of the plain width, up to a multiple of eight.
                let inner = ((shape.inner as f64 * 2.0 / 3.0) as i64 + 7) / 8 * 8;
                Feed::SwiGlu(
                    Linear::take(weights, &name("mlp.weights_in"), [2 * inner, width], true),
                    Linear::take(weights, &name("mlp.weights_out"), [width, inner], true),
                )
            }
        };
        Self {
            norm1: LayerNorm::take(weights, &name("norm1"), width, shape.eps),
            attention: SelfAttention {
                qkv: Linear::fused(&qkv),
                out: Linear::take(
                    weights,
                    &name("attention.output.dense"),
                    [width, width],
                    true,
                ),
                heads: shape.heads,
            },
            scale1: weights.wide(&name("layer_scale1.lambda1"), &[width]),
            norm2: LayerNorm::take(weights, &name("norm2"), width, shape.eps),
            feed,
            scale2: weights.wide(&name("layer_scale2.lambda1"), &[width]),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mixed = self
            .attention
            .forward(&self.norm1.forward(x), AttentionMask::Full);
        let x = mixed * &self.scale1 + x;
        self.feed.forward(&self.norm2.forward(&x)) * &self.scale2 + x
    }
}

impl Feed {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain(inner, activation, out) => {
                out.forward(&activation.apply(&inner.forward(x)))
            }
            Self::SwiGlu(inner, out) => {
                let halves = inner.forward(x).chunk(2, -1);
                out.forward(&(full(&halves[0]).silu() * &halves[1]))
            }
        }
    }
}
