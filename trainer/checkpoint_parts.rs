//! What a checkpoint is made of, besides files.

use std::path::Path;
use std::sync::Arc;

use models::{Decoder, Tokenizer};
use rollout::data::CursorState;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inputs::Inputs;
use crate::learn::AdamW;

/// Where a run stands, besides its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Stage name.
    pub stage: String,
    /// Its place in the config.
    pub stage_index: usize,
    /// Steps of the stage done.
    pub step: u64,
    /// Whether the evaluation that belongs after that step is still to be made: a signal cut it short.
    #[serde(default)]
    pub evaluation_owed: bool,
    /// The `eval.stop_after` that ended the stage at that step; 0: none did.
    #[serde(default)]
    pub stopped_after: u64,
    /// Updates the optimizer has applied in the stage.
    pub updates: u64,
    /// Place in the data.
    pub cursor: CursorState,
    /// Completion tokens learnt from in the stage.
    pub tokens: u64,
    /// Ranks that ran.
    pub world_size: usize,
    /// libtorch's threads on the CPU, per rank.
    pub threads: usize,
    /// The stage of sharding.
    #[serde(default)]
    pub sharding: u8,
}

/// What a checkpoint's run was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The resolved config without what a continuation may change.
    pub config: Value,
    /// The rows, the first weights, the tokenizer, the encoders, the templates.
    pub inputs: Inputs,
}

/// What is written.
pub struct Contents<'a> {
    /// Weights and shape, in memory on the leader.
    pub model: &'a Decoder,
    /// Moments and master weights, or this rank's share of them.
    pub optimizer: &'a AdamW,
    /// Tokenizer files.
    pub tokenizer: &'a Arc<Tokenizer>,
    /// The folder that the policy came from, if it came from one: what else is in it travels along.
    pub origin: Option<&'a Path>,
    /// What the run is made of.
    pub provenance: &'a Provenance,
    /// The text of the batches that are sampled ahead, on the leader, if there are any.
    pub ahead: Option<String>,
}
