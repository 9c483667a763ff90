//! The build without the feature `client` calls no service: an endpoint is refused by name.

use crate::config::{RewardsConfig, TaskScoring};
use crate::error::RewardError;
use crate::reference::Reference;
use crate::round::Stopped;
use crate::scorer::Order;
use crossbeam_channel::Receiver;
use indexmap::IndexMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Never made.
pub(crate) enum Remote {}

impl Remote {
    pub fn connect(
        _: &RewardsConfig,
        _: &str,
        _: &IndexMap<String, TaskScoring>,
    ) -> Result<Remote, RewardError> {
        Err(RewardError::Config(
            "rewards.endpoint: this build scores in its own process only (build with the feature `client`)".into(),
        ))
    }

    pub fn serve(&self, _: &Receiver<Order>, _: &AtomicBool) {
        match *self {}
    }

    pub fn check(&self, _: &str, _: &Reference) -> Result<(), String> {
        match *self {}
    }

    pub fn check_unless(
        self: &Arc<Self>,
        _: &str,
        _: &Arc<Reference>,
        _: &dyn Fn() -> bool,
    ) -> Result<Result<(), String>, Stopped> {
        match **self {}
    }

    pub fn lost(&self) -> Option<RewardError> {
        match *self {}
    }
}
