//! How completions are sampled: plain values, the same for every engine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How tokens are drawn and when a completion ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits, > 0; 0 takes the most probable token.
    pub temperature: f64,
    /// Keeps the smallest set of tokens with this much probability, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// Keeps this many most probable tokens; 0 is off.
    pub top_k: i64,
    /// Keeps tokens at least this probable relative to the most probable one, in [0, 1]; 0 is off.
    pub min_p: f64,
    /// Longest completion, in tokens.
    pub max_new_tokens: usize,
    /// Strings that end a completion.
    pub stop: Vec<String>,
    /// Whether the text keeps the stop string that ended it.
    pub include_stop: bool,
    /// Token ids that end a completion besides the tokenizer's end tokens.
    pub stop_token_ids: Vec<i64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: 512,
            stop: Vec::new(),
            include_stop: false,
            stop_token_ids: Vec::new(),
        }
    }
}

impl Sampling {
    /// What is out of bounds, as `key: bound`.
    pub fn check(&self) -> Result<(), String> {
        let Self {
            temperature,
            top_p,
            top_k,
            min_p,
            ..
        } = self;
        if !(temperature.is_finite() && *temperature >= 0.0) {
            return Err(format!("temperature: must be >= 0, got {temperature}"));
        }
        if !(*top_p > 0.0 && *top_p <= 1.0) {
            return Err(format!("top_p: must be in (0, 1], got {top_p}"));
        }
        if *top_k < 0 {
            return Err(format!("top_k: must be >= 0 (0 is off), got {top_k}"));
        }
        if !(0.0..=1.0).contains(min_p) {
            return Err(format!("min_p: must be in [0, 1], got {min_p}"));
        }
        if self.max_new_tokens == 0 {
            return Err("max_new_tokens: must be >= 1, got 0".into());
        }
        if self.stop.iter().any(String::is_empty) {
            return Err("stop: a stop string must not be empty".into());
        }
        Ok(())
    }

    /// Whether some tokens are left out before drawing.
    pub(super) fn filters(&self) -> bool {
        self.top_p < 1.0 || self.top_k > 0 || self.min_p > 0.0
    }
}
