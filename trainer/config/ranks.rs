//! The section `ranks`: what the processes of a run allow each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The processes of a run that computes on several devices or machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RanksConfig {
    /// Seconds after which a rank that does not come, or that hangs in a step, is given up; >= 1. Phases whose
    /// length is known from earlier ones of the stage are given less. `SVGRL_COLLECTIVE_TIMEOUT_S` beats it.
    pub timeout_s: u64,
}

impl Default for RanksConfig {
    fn default() -> Self {
        Self { timeout_s: 600 }
    }
}
