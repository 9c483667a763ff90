//! Samplers that are processes of this program, and how they are used.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where completions are sampled, with `engine: local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// By the ranks that learn, with the very tensors that are trained.
    #[default]
    Colocated,
    /// By processes of their own, which `svgrl launch --learners N --samplers M -- train CONFIG` starts. Commands other than
    /// `train` sample in their own process.
    Dedicated,
}

/// How the samplers of `placement: dedicated` are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplersConfig {
    /// Completions that are under way at each sampler at a time, of all learners together; >= 1. Its cache holds as many at
    /// their full length unless `cache_tokens` bounds it.
    pub in_flight: usize,
    /// Seconds without a sign of life after which a sampler is given up, and what a piece of the weights may take on its
    /// way; > 0.
    pub silence_s: f64,
    /// Seconds for which samplers are waited for at the start, and for which the run goes on without any; > 0.
    pub deadline_s: f64,
}

impl Default for SamplersConfig {
    fn default() -> Self {
        Self {
            in_flight: 64,
            silence_s: 30.0,
            deadline_s: 300.0,
        }
    }
}

impl SamplersConfig {
    /// What is out of bounds, as `key: bound`.
    ///
    /// # Errors
    /// The first such key.
    pub fn check(&self) -> Result<(), String> {
        if self.in_flight == 0 {
            return Err("in_flight: must be >= 1, got 0".into());
        }
        let all = [
            ("silence_s", self.silence_s),
            ("deadline_s", self.deadline_s),
        ];
        match all
            .iter()
            .find(|(_, value)| !(value.is_finite() && *value > 0.0))
        {
            Some((key, value)) => Err(format!("{key}: must be > 0, got {value}")),
            None => Ok(()),
        }
    }

    pub(super) fn silence(&self) -> Duration {
        Duration::from_secs_f64(self.silence_s.clamp(0.1, 1e9))
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline_s.min(1e9))
    }
}
