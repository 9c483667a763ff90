//! The servers that sample elsewhere, and how they are spoken to.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the servers of `rollout.endpoints` are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServersConfig {
    /// The model's name there (vLLM's `--served-model-name`); null takes the one model that the server lists.
    pub model: Option<String>,
    /// A file with the key that the servers ask for (`--api-key`), sent as a bearer token.
    pub token_file: Option<PathBuf>,
    /// Completions that are under way at each server at a time, of all ranks together; >= 1.
    pub in_flight: usize,
    /// Seconds that one completion's request may take; then it is asked for again, elsewhere if there are several
    /// servers; > 0.
    pub timeout_s: f64,
    /// Seconds from a completion's first request until the run gives up on it, and for how long servers are waited for
    /// at the start; > 0.
    pub deadline_s: f64,
    /// How new weights get there.
    pub update: WeightUpdate,
    /// A folder that this process and the servers see under the same path, for the weights of `update`; null: a folder in
    /// /dev/shm, for servers of the same machine.
    pub weights: Option<PathBuf>,
    /// The largest difference of a token's log-probability between server and learner that a probe lets pass, natural
    /// log, > 0; null: 0.001 in float32, 0.3 in narrower kinds. A probe is a greedy completion of 16 tokens at the start
    /// and after every update of the weights.
    pub probe_gap: Option<f64>,
    /// Whether servers free their memory while the learner learns (vLLM: /sleep and /wake_up, SGLang:
    /// /release_memory_occupation and /resume_memory_occupation): for servers on the learner's own GPUs.
    pub sleep: bool,
}

impl Default for ServersConfig {
    fn default() -> Self {
        Self {
            model: None,
            token_file: None,
            in_flight: 64,
            timeout_s: 600.0,
            deadline_s: 900.0,
            update: WeightUpdate::Auto,
            weights: None,
            probe_gap: None,
            sleep: false,
        }
    }
}

/// How new weights get to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightUpdate {
    /// Where adapters train (`lora`): `adapter`. vLLM: `transfer`, or `reload` where the server knows no transfer and the
    /// policy's head is not tied to its embedding. SGLang: `disk`.
    #[default]
    Auto,
    /// vLLM: pause, start, update file by file, finish, resume, by the worker class in launch/clients/svgrl_vllm.py.
    Transfer,
    /// vLLM: its own `reload_weights`; refused for tied heads, which it leaves stale on the CPU.
    Reload,
    /// SGLang: /update_weights_from_disk.
    Disk,
    /// SGLang: broadcast over a process group that the servers join, without files.
    Group,
    /// The adapters alone, under a new name for each version; of a LoRA stage. Elsewhere adapters are sent merged.
    Adapter,
}

impl ServersConfig {
    /// What is out of bounds, as `key: bound`.
    ///
    /// # Errors
    /// The first such key.
    pub fn check(&self) -> Result<(), String> {
        if self.in_flight == 0 {
            return Err("in_flight: must be >= 1, got 0".into());
        }
        let mut positive = vec![
            ("timeout_s", self.timeout_s),
            ("deadline_s", self.deadline_s),
        ];
        positive.extend(self.probe_gap.map(|gap| ("probe_gap", gap)));
        match positive
            .iter()
            .find(|(_, value)| !(value.is_finite() && *value > 0.0))
        {
            Some((key, value)) => Err(format!("{key}: must be > 0, got {value}")),
            None => Ok(()),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_s.min(1e9))
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline_s.min(1e9))
    }
}
