//! Where a paper's words and its released code differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of the two is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// As the paper has it, and as is sound: an SVG ends where its root closes.
    #[default]
    Strict,
    /// As the released code does it.
    AsReleased,
}
