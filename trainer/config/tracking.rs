//! The sections `metrics` and `tracking`: what else a run's numbers are called, and where else they go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::AliasSet;

/// How metrics are written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Whose names each training step's metrics have besides their own, in metrics.jsonl and TensorBoard: `verl`, `trl`.
    pub aliases: Vec<AliasSet>,
}

/// Trackers that a finished run is replayed into.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrackingConfig {
    /// Weights & Biases: an offline run in the run folder, written at the run's end (`wandb sync` sends it;
    /// WANDB_MODE=online does both). The same as `svgrl export wandb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wandb: Option<WandbConfig>,
}

/// Where a run goes in Weights & Biases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WandbConfig {
    /// The project.
    pub project: String,
    /// A Python with the package `wandb`.
    #[serde(default = "python")]
    pub python: String,
}

fn python() -> String {
    "python3".to_owned()
}
