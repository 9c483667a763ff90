//! How a stage samples.

use rollout::Sampling;
use rollout::engine::EngineConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, at_least, ensure, positive};

/// How completions are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// What samples.
    pub engine: EngineConfig,
    /// Completions of each prompt, >= 2.
    pub group_size: usize,
    /// Sequences decoded at a time; 0: all of a step's.
    pub slots: usize,
    /// Tokens, those of prompts included, whose keys and values the local engine holds at a time; 0: as many as a step may
    /// need, all completions at their full length. Completions that find no room wait, and the youngest give way to older
    /// ones and are drawn again, with the same result bit for bit whatever the bound (on the CPU; a bounded cache
    /// rounds by a last bit otherwise than one without a bound). Must hold the longest prompt with its completion.
    pub cache_tokens: usize,
    /// Prompts longer than this many tokens are left out and counted; >= 1.
    pub max_prompt_tokens: usize,
    /// Longest completion, in tokens; >= 1.
    pub max_new_tokens: usize,
    /// Completions of a step are at most as long as the longest reference of its prompts plus this many tokens (what
    /// supervised training would imitate of a row: its target, its SVG or its text, with the token that ends it), and
    /// never longer than `max_new_tokens`; prompts without such a reference are bounded by that alone. Prompts that
    /// `zero_spread: refill` draws besides have a bound of their own; evaluations keep theirs. null: `max_new_tokens`
    /// alone. (RLRF, arXiv 2505.20793, appendix C.3)
    pub longest_reference_plus: Option<usize>,
    /// Divides the logits, in the sampler and in the learner; > 0.
    pub temperature: f64,
    /// Keeps the smallest set of tokens with this much probability, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// Keeps this many most probable tokens; 0 is off.
    pub top_k: i64,
    /// Keeps tokens at least this probable relative to the best, in [0, 1]; 0 is off.
    pub min_p: f64,
    /// Strings that end a completion.
    pub stop: Vec<String>,
    /// Whether the text keeps the stop string that ended it.
    pub include_stop: bool,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            group_size: 8,
            slots: 0,
            cache_tokens: 0,
            max_prompt_tokens: 4096,
            max_new_tokens: 512,
            longest_reference_plus: None,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            stop: Vec::new(),
            include_stop: false,
        }
    }
}

impl RolloutConfig {
    /// The most tokens of completions whose prompts' longest reference has `longest` of them; 0: none has one.
    pub fn most_tokens(&self, longest: usize) -> usize {
        match self.longest_reference_plus.filter(|_| longest > 0) {
            Some(more) => longest.saturating_add(more).min(self.max_new_tokens),
            None => self.max_new_tokens,
        }
    }

    /// Whether its values are within their bounds.
    pub(super) fn check(&self) -> BoundResult {
        at_least("rollout.max_prompt_tokens", self.max_prompt_tokens, 1)?;
        positive("rollout.temperature", self.temperature)?;
        let sampling = self.sampling().check();
        sampling.map_err(|error| format!("rollout.{error}"))?;
        let least = 2 * models::KV_PAGE as usize + self.max_new_tokens;
        ensure(self.cache_tokens == 0 || self.cache_tokens >= least, || {
            format!(
                "rollout.cache_tokens: must hold a prompt and a whole completion, >= {least}, got {}",
                self.cache_tokens
            )
        })
    }

    /// The engine's view of it.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            max_new_tokens: self.max_new_tokens,
            stop: self.stop.clone(),
            include_stop: self.include_stop,
            stop_token_ids: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_reference_bounds_below_the_maximum() {
        let rollout = |longest_reference_plus| RolloutConfig {
            max_new_tokens: 100,
            longest_reference_plus,
            ..RolloutConfig::default()
        };
        assert_eq!(rollout(None).most_tokens(7), 100);
        let bounded = rollout(Some(20));
        assert_eq!(
            [0, 7, 80, 81].map(|longest| bounded.most_tokens(longest)),
            [100, 27, 100, 100]
        );
        assert_eq!(rollout(Some(0)).most_tokens(7), 7);
    }
}
