//! Which engine samples, and what it may share with the process that opens it.

use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, Tokenizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::images::ImageCache;

/// Which engine samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineConfig {
    /// In the learner's own process, with the very tensors that are trained.
    #[default]
    Local,
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
}
