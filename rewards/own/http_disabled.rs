//! The build without the feature `client` asks no service: the reward is refused by name.

use super::setup::Batching;
use crate::error::RewardError;
use crate::scores::Verdict;
use serde_json::Value;

/// Never made.
pub(super) enum HttpLink {}

impl HttpLink {
    pub fn open(_: &str, _: Option<&str>, _: Batching) -> Result<Self, RewardError> {
        Err(RewardError::Config(
            "type: this build asks no service (build with the feature `client`)".into(),
        ))
    }

    pub fn ask(&self, _: &[Value]) -> Result<Vec<Verdict>, String> {
        match *self {}
    }
}
