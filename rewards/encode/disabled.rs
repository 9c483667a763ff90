//! The build without the feature `perceptual` has no networks: a reward that needs one is refused.

use super::need::used;
use super::{EncodeRequest, EncoderCount, EncoderNeed, EncoderSet, NoAnswer, Promise, TokenLayers};
use crate::error::RewardError;

/// Nothing at all.
pub(crate) struct Encoders;

impl Encoders {
    pub fn open(set: &EncoderSet, needs: &[EncoderNeed]) -> Result<Encoders, RewardError> {
        match used(set, needs)?.keys().next() {
            None => Ok(Encoders),
            Some(name) => Err(RewardError::Config(format!(
                "encoders.{name}: this build has no encoders (build with the feature `perceptual`)"
            ))),
        }
    }

    pub fn is_empty(&self) -> bool {
        true
    }

    pub fn ask(&self, _: &str, _: EncodeRequest) -> Promise {
        Promise::without_answer(NoAnswer::failed("this build has no encoders"))
    }

    pub fn token_layers(&self, _: &str) -> Option<TokenLayers> {
        None
    }

    pub fn offload(&self) {}

    pub fn reload(&self) {}

    pub fn counts(&self) -> Vec<(&str, EncoderCount)> {
        Vec::new()
    }
}
