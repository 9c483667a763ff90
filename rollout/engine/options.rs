//! Which engine samples, and what it may share with the process that opens it.

use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, Tokenizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::ServersConfig;
use super::images::ImageCache;

/// Which engine samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineConfig {
    /// In the learner's own process, with the very tensors that are trained.
    #[default]
    Local,
    /// vLLM servers, whose addresses are `endpoints`.
    Vllm,
    /// SGLang servers, whose addresses are `endpoints`.
    Sglang,
}

/// What an engine may share with the process that opens it.
pub struct EngineOptions {
    /// The policy: the local engine decodes with its tensors.
    pub policy: Rc<Decoder>,
    /// Where encoded pictures are left for the learner; `None` where nobody takes them.
    pub images: Option<Rc<ImageCache>>,
    /// Gives completions their text; without it stop strings are refused.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Sequences decoded at a time; 0: as many as are asked for.
    pub slots: usize,
    /// Tokens whose keys and values the local engine holds at a time; 0: as many as may be needed.
    pub cache_tokens: usize,
    /// The servers that sample elsewhere; none for the local engine.
    pub servers: ServersOptions,
}

/// What becomes of a completion that is being written when new weights come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartialCompletions {
    /// It goes on with the new weights; its row says which tokens are whose.
    #[default]
    Keep,
    /// It is dropped, and asked for again after the update with the same key for its random numbers.
    Abort,
}

/// Sampling while the learner learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadOptions {
    /// How many updates of the weights a completion may see.
    pub steps: usize,
    /// What becomes of those that are under way at one.
    pub partial: PartialCompletions,
}

/// Servers that sample elsewhere.
#[derive(Debug, Clone, Default)]
pub struct ServersOptions {
    /// Their addresses.
    pub endpoints: Vec<String>,
    /// How they are used.
    pub config: ServersConfig,
    /// How far they sample ahead of the learner, where they do.
    pub ahead: Option<AheadOptions>,
}
