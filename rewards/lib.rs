//! rewards
use serde::{Deserialize,Serialize};
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Reference { pub svg: Option<String>, pub text: Option<String> }
