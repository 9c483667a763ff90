//! How a stage samples.

use rollout::Sampling;
use rollout::engine::{
    AheadOptions, EngineConfig, PartialCompletions, Placement, SamplersConfig, ServersConfig,
    ServersOptions,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, at_least, ensure, positive};

/// How completions are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// What samples.
    pub engine: EngineConfig,
    /// Addresses of the servers that sample, such as http://127.0.0.1:8000, with `engine: vllm` or `sglang`; work goes to
    /// those that are free.
    pub endpoints: Vec<String>,
    /// How the servers of `endpoints` are used.
    pub servers: ServersConfig,
    /// How many steps old the weights may be that a batch is sampled with: the batch of step k by those after step
    /// k - 1 - max_staleness at the least. 0: each step waits for its own completions. 1: servers sample the next batch
    /// while the learner learns this one. So many batches are drawn, sampled and scored ahead, never more. The local
    /// engine, which shares the learner's tensors, samples them in that order without doing both at a time: the same
    /// numbers each time, no gain of time; so it does by dedicated samplers, which sample meanwhile. What is learnt from is corrected as `correction` says.
    pub max_staleness: usize,
    /// With `max_staleness` and servers: what becomes of completions that are being written when new weights come; null:
    /// they go on. Elsewhere no weights come while a completion is written, and a value is refused.
    pub partial: Option<PartialCompletions>,
    /// Where `engine: local` samples.
    pub placement: Placement,
    /// How the samplers of `placement: dedicated` are used.
    pub samplers: SamplersConfig,
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
            endpoints: Vec::new(),
            servers: ServersConfig::default(),
            max_staleness: 0,
            partial: None,
            placement: Placement::default(),
            samplers: SamplersConfig::default(),
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
        self.check_servers()?;
        self.check_ahead()?;
        self.check_samplers()?;
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

    /// The servers that sample, if any do.
    pub fn servers(&self) -> ServersOptions {
        ServersOptions {
            endpoints: self.endpoints.clone(),
            config: self.servers.clone(),
            ahead: (self.max_staleness > 0).then_some(AheadOptions {
                steps: self.max_staleness,
                partial: self.partial.unwrap_or_default(),
            }),
        }
    }

    /// Whether what samples can do so ahead of the learner.
    fn check_ahead(&self) -> BoundResult {
        let ahead = self.max_staleness > 0;
        if ahead && self.servers.sleep {
            return Err("rollout.max_staleness: servers that sleep while the learner learns (servers.sleep) sample nothing meanwhile: max_staleness 0, or servers that stay awake".into());
        }
        let under_way = ahead && self.engine != EngineConfig::Local;
        ensure(under_way || self.partial.is_none(), || {
            "rollout.partial: new weights meet no completion without servers (engine: vllm or sglang) and max_staleness >= 1; dedicated samplers finish what they write first. Leave the key out".into()
        })
    }

    /// Whether others than the learners' own processes sample.
    pub fn is_elsewhere(&self) -> bool {
        self.engine != EngineConfig::Local || self.placement == Placement::Dedicated
    }

    /// Whether engine, placement and samplers fit each other.
    fn check_samplers(&self) -> BoundResult {
        let dedicated = self.placement == Placement::Dedicated;
        if dedicated && self.engine != EngineConfig::Local {
            return Err("rollout.placement: `dedicated` samplers are processes of this program (engine: local); vllm and sglang sample elsewhere as it is".into());
        }
        if !dedicated && self.samplers != SamplersConfig::default() {
            return Err(
                "rollout.samplers: `placement: colocated` has no samplers (placement: dedicated)"
                    .into(),
            );
        }
        self.samplers
            .check()
            .map_err(|error| format!("rollout.samplers.{error}"))
    }

    /// Whether engine and servers fit each other.
    fn check_servers(&self) -> BoundResult {
        let elsewhere = self.engine != EngineConfig::Local;
        if elsewhere && self.endpoints.is_empty() {
            return Err("rollout.endpoints: `engine: vllm` and `sglang` need the address of a server at least".into());
        }
        if !elsewhere && !self.endpoints.is_empty() {
            return Err("rollout.endpoints: `engine: local` samples in this process (engine: vllm or sglang)".into());
        }
        if !elsewhere && self.servers != ServersConfig::default() {
            return Err("rollout.servers: `engine: local` has no servers".into());
        }
        ensure(
            !elsewhere || (self.slots == 0 && self.cache_tokens == 0),
            || {
                "rollout.slots: slots and cache_tokens are the local engine's; servers have rollout.servers.in_flight and flags of their own".into()
            },
        )?;
        for address in &self.endpoints {
            let host = ["http://", "https://"]
                .iter()
                .find_map(|scheme| address.strip_prefix(scheme));
            ensure(
                host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')),
                || {
                    format!(
                        "rollout.endpoints: must be addresses such as http://127.0.0.1:8000, got {address:?}"
                    )
                },
            )?;
        }
        let mut each = self.endpoints.iter().enumerate();
        let twice = each.any(|(at, address)| self.endpoints[..at].contains(address));
        ensure(!twice, || {
            "rollout.endpoints: an address stands there twice".into()
        })?;
        self.servers
            .check()
            .map_err(|error| format!("rollout.servers.{error}"))
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
