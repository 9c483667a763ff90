//! The build without the feature `perceptual` has no networks: a reward that needs one is refused.

use super::{EncoderCount, EncoderSet, Feature, LpipsUse, Ticket, used};
use crate::config::TaskScoring;
use crate::error::RewardError;
use crate::picture::Picture;
use indexmap::IndexMap;
use std::sync::Arc;

/// Nothing at all.
pub(crate) struct Encoders;

impl Encoders {
    pub fn open(
        set: &EncoderSet,
        tasks: &IndexMap<String, TaskScoring>,
    ) -> Result<Encoders, RewardError> {
        match used(set, tasks)?.keys().next() {
            None => Ok(Encoders),
            Some(name) => Err(RewardError::Config(format!(
                "encoders.{name}: this build has no encoders (build with the feature `perceptual`)"
            ))),
        }
    }

    pub fn is_empty(&self) -> bool {
        true
    }

    pub fn picture(&self, _: &str, _: Feature, _: &Picture) -> Ticket {
        Ticket::default()
    }

    pub fn text(&self, _: &str, _: &str) -> Ticket {
        Ticket::default()
    }

    pub fn token_layers(&self, _: &str) -> Option<(usize, usize)> {
        None
    }

    pub fn tokens(&self, _: &str, _: usize, _: &str) -> Ticket {
        Ticket::default()
    }

    pub fn kept_tokens(&self, _: &str, _: usize, _: &str) -> Ticket {
        Ticket::default()
    }

    pub fn distance(&self, _: &str, _: LpipsUse, _: [&Arc<Picture>; 2]) -> Ticket {
        Ticket::default()
    }

    pub fn rest(&self) {}

    pub fn wake(&self) {}

    pub fn counts(&self) -> Vec<(&str, EncoderCount)> {
        Vec::new()
    }

    pub fn fault(&self) -> Option<RewardError> {
        None
    }
}
