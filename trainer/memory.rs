//! What a policy and its training hold on a device, in bytes: the plan's figures, by formula.
//!
//! Left out: activations and the caches of decoding, which depend on the batch, and the alignment
//! gaps of the flat buffers, at most 15 elements for each parameter.

use models::{Component, DecoderConfig};

use crate::config::Dtype;

/// Bytes by what they are for. A frozen parameter counts among the weights alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingMemory {
    /// All parameters.
    pub weights: i64,
    /// Gradients of what learns, and in bfloat16 their float32 sum.
    pub gradients: i64,
    /// Both moments of what learns, and in bfloat16 its float32 master weights.
    pub optimizer: i64,
}

impl TrainingMemory {
    /// For a policy of this shape, `frozen` parts of which do not learn.
    pub fn of(shape: &DecoderConfig, frozen: &[Component], dtype: Dtype) -> Self {
        let (all, learn) = (shape.parameters(), shape.parameters_without(frozen));
        match dtype {
            Dtype::Float32 => Self {
                weights: 4 * all,
                gradients: 4 * learn,
                optimizer: (4 + 4) * learn,
            },
            Dtype::Bfloat16 => Self {
                weights: 2 * all,
                gradients: (2 + 4) * learn,
                optimizer: (4 + 4 + 4) * learn,
            },
        }
    }

    /// For a policy of this shape, beside whose weights `adapters` numbers learn; these are float32, and so have neither
    /// a sum of gradients nor master weights of their own.
    pub fn with_adapters(shape: &DecoderConfig, adapters: i64, dtype: Dtype) -> Self {
        let width = match dtype {
            Dtype::Float32 => 4,
            Dtype::Bfloat16 => 2,
        };
        Self {
            weights: width * shape.parameters() + 4 * adapters,
            gradients: 4 * adapters,
            optimizer: (4 + 4) * adapters,
        }
    }

    /// All of them.
    pub fn total(&self) -> i64 {
        self.weights + self.gradients + self.optimizer
    }
}
