//! The section `sharding`: what the ranks of a run hold together instead of each alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run's ranks share out among them (ZeRO). Results do not depend on it beyond rounding; a checkpoint
/// continues under any other stage and number of ranks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShardingConfig {
    /// 0: every rank holds everything. 1: a rank holds the optimizer's state (moments, in bfloat16 master weights) of
    /// its share of what learns. 2: the sum of gradients of its share alone, too; the backward pass runs block by
    /// block. 3: the weights of its share alone, too, the reference policy's as well; blocks are gathered ahead of
    /// use and let go after, all of them while completions are sampled and checkpoints are copied. A vision tower
    /// and what is frozen stay whole on every rank. With one rank nothing is shared out.
    #[schemars(range(max = 3))]
    pub stage: u8,
    /// Keeps moments and master weights in the host's memory and updates there. On the CPU that is where they are.
    pub offload_optimizer: bool,
    /// Keeps the reference policy's weights in the host's memory and brings them block by block for its passes. On
    /// the CPU that is where they are.
    pub offload_reference: bool,
}
