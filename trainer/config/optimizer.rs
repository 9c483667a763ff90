//! The optimizer of a stage and the shape of its learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// AdamW (Loshchilov and Hutter 2019) and its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Peak learning rate, > 0.
    pub learning_rate: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment, > 0.
    pub epsilon: f64,
    /// Decoupled weight decay of matrices, >= 0; norms and biases are spared.
    pub weight_decay: f64,
    /// Largest global gradient norm, > 0; null does not clip.
    pub clip_norm: Option<f64>,
    /// Shape of the learning rate over the stage.
    pub schedule: Schedule,
    /// Steps of linear rise from 0, a number of steps if >= 1, a share of the stage's if below.
    pub warmup: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-5,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: Some(1.0),
            schedule: Schedule::Constant {},
            warmup: 0.0,
        }
    }
}

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The peak throughout.
    Constant {},
    /// Half a cosine from the peak down to `floor` times the peak at the last step.
    Cosine {
        /// Share of the peak at the end, in [0, 1].
        #[serde(default)]
        floor: f64,
    },
    /// Multiplied by `factor` every `every` steps.
    Step {
        /// Steps between two cuts, >= 1.
        every: u64,
        /// What each cut multiplies by, in (0, 1].
        factor: f64,
    },
}
