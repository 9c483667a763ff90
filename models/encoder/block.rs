//! What transformer encoders share: linear maps, layer norms, attention over a padded batch, and the
//! pre-norm block of CLIP, SigLIP and DINOv2.
//!
//! Inference only. Query, key and value are one matrix multiplication. In half precision the blocks' matrix
//! multiplications alone are: norms, the sums that run through all blocks, and the maps of pixels and of
//! pooled vectors, whose rounding nothing averages out, stay in float32.

use tch::{Kind, Tensor};

use super::to_device::each_tensor;
use crate::layers::Activation;
use crate::linear::Linear;
use crate::weights::Weights;

each_tensor! {
    Linear { weight, bias }
    LayerNorm { weight, bias }
    SelfAttention { qkv, out }
    EncoderBlock { norm1, attention, norm2, fc1, fc2 }
}

impl Linear {
    /// Takes `name.weight [out, in]` and, if asked for, `name.bias [out]`.
    pub fn take(weights: &mut Weights, name: &str, [out, inner]: [i64; 2], bias: bool) -> Self {
        Self {
            weight: weights.take(&format!("{name}.weight"), &[out, inner]),
            bias: bias.then(|| weights.take(&format!("{name}.bias"), &[out])),
        }
    }

    /// As [`Self::take`], in float32 at least.
    pub fn wide(weights: &mut Weights, name: &str, [out, inner]: [i64; 2], bias: bool) -> Self {
        Self {
            weight: weights.wide(&format!("{name}.weight"), &[out, inner]),
            bias: bias.then(|| weights.wide(&format!("{name}.bias"), &[out])),
        }
    }

    /// Several maps of one input as one, their outputs side by side.
    pub fn fused(parts: &[Self]) -> Self {
        // What stands in for a tensor that is missing need not be copied out.
        if let Some(part) = parts.iter().find(|part| part.weight.stride() == [0, 0]) {
            return Self {
                weight: part.weight.shallow_clone(),
                bias: None,
            };
        }
        let cat = |of: &dyn Fn(&Self) -> Option<&Tensor>| {
            let all: Option<Vec<&Tensor>> = parts.iter().map(of).collect();
            all.map(|all| Tensor::cat(&all, 0))
        };
        Self {
            weight: cat(&|part| Some(&part.weight)).expect("every map has a weight"),
            bias: cat(&|part| part.bias.as_ref()),
        }
    }
}

/// Layer norm over the last dimension, in float32 at least.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Takes `name.weight` and `name.bias`, both `[width]`.
    pub fn take(weights: &mut Weights, name: &str, width: i64, eps: f64) -> Self {
        let mut wide = |part: &str| weights.wide(&format!("{name}.{part}"), &[width]);
        Self {
            weight: wide("weight"),
            bias: wide("bias"),
            eps,
        }
    }

    /// `x [.., width]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let size = self.weight.size();
        full(x).layer_norm(size, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AttentionMask<'a> {
    /// All.
    Full,
    /// Those up to its own place.
    Causal,
    /// Where the additive mask `[B, 1, 1, T]` is 0 and not minus infinity.
    Masked(&'a Tensor),
}

/// Self-attention with one matrix for query, key and value.
#[derive(Debug)]
pub(crate) struct SelfAttention {
    pub qkv: Linear,
    pub out: Linear,
    pub heads: i64,
}

impl SelfAttention {
    /// `x [B, T, H]` to the same.
    pub fn forward(&self, x: &Tensor, sight: AttentionMask) -> Tensor {
        let (batch, rows, width) = x.size3().expect("a batch of sequences");
        let dim = width / self.heads;
        let qkv = self
            .qkv
            .forward(x)
            .view([batch, rows, 3, self.heads, dim])
            .permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (qkv.get(0), qkv.get(1), qkv.get(2));
        let (mask, causal) = match sight {
            AttentionMask::Full => (None, false),
            AttentionMask::Causal => (None, true),
            AttentionMask::Masked(mask) => (Some(mask), false),
        };
        let mixed =
            Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, causal, None, false);
        self.out
            .forward(&mixed.transpose(1, 2).reshape([batch, rows, width]))
    }
}

/// Where a checkpoint keeps the pieces of a block.
pub(crate) struct BlockNames {
    pub norm1: &'static str,
    pub norm2: &'static str,
    /// Query, key and value maps.
    pub qkv: [&'static str; 3],
    pub out: &'static str,
    pub fc1: &'static str,
    pub fc2: &'static str,
}

/// The sizes of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockShape {
    pub width: i64,
    pub inner: i64,
    pub heads: i64,
    pub eps: f64,
    pub activation: Activation,
}

/// `x += attention(norm1 x)`, `x += feed-forward(norm2 x)`.
#[derive(Debug)]
pub(crate) struct EncoderBlock {
    pub norm1: LayerNorm,
    pub attention: SelfAttention,
    pub norm2: LayerNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    pub activation: Activation,
}

impl EncoderBlock {
    /// Takes the tensors under `prefix`.
    pub fn take(
        weights: &mut Weights,
        prefix: &str,
        names: &BlockNames,
        shape: BlockShape,
    ) -> Self {
        let BlockShape {
            width, inner, eps, ..
        } = shape;
        let name = |part: &str| format!("{prefix}.{part}");
        let parts = names
            .qkv
            .map(|part| Linear::take(weights, &name(part), [width, width], true));
        Self {
            norm1: LayerNorm::take(weights, &name(names.norm1), width, eps),
            attention: SelfAttention {
                qkv: Linear::fused(&parts),
                out: Linear::take(weights, &name(names.out), [width, width], true),
                heads: shape.heads,
            },
            norm2: LayerNorm::take(weights, &name(names.norm2), width, eps),
            fc1: Linear::take(weights, &name(names.fc1), [inner, width], true),
            fc2: Linear::take(weights, &name(names.fc2), [width, inner], true),
            activation: shape.activation,
        }
    }

    /// `x [B, T, H]` to the same.
    pub fn forward(&self, x: &Tensor, sight: AttentionMask) -> Tensor {
        let x = x + self.attention.forward(&self.norm1.forward(x), sight);
        let inner = self
            .activation
            .apply(&self.fc1.forward(&self.norm2.forward(&x)));
        x + self.fc2.forward(&inner)
    }
}

/// In float32 at least.
pub(crate) fn full(x: &Tensor) -> Tensor {
    x.to_kind(crate::layers::reduce_kind(x.kind()))
}

/// Patches of square pictures: `pixels [B, 3, S, S]`, `weight [H, 3, P, P]` to `[B, (S/P)^2, H]`,
/// in the weights' kind.
pub(crate) fn patches(pixels: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let patch = weight.size()[2];
    pixels
        .conv2d(weight, bias, [patch, patch], [0, 0], [1, 1], 1)
        .flatten(2, 3)
        .transpose(1, 2)
}

/// The rows of unit length: `x [N, D]`, in float32 at least.
pub(crate) fn unit_rows(x: &Tensor) -> Tensor {
    let x = full(x);
    let norm = x.norm_scalaropt_dim(2.0, [-1], true).clamp_min(1e-12);
    x / norm
}

/// An additive mask `[B, 1, 1, T]` that hides the places behind each row's length.
pub(crate) fn length_mask(
    lengths: &[i64],
    width: i64,
    (kind, device): (Kind, tch::Device),
) -> Tensor {
    let places = Tensor::arange(width, (Kind::Int64, device)).unsqueeze(0);
    let lengths = Tensor::from_slice(lengths).to_device(device).unsqueeze(1);
    let hidden = places.ge_tensor(&lengths);
    Tensor::zeros(hidden.size(), (kind, device))
        .masked_fill(&hidden, f64::NEG_INFINITY)
        .unsqueeze(1)
        .unsqueeze(1)
}
