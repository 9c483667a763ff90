//! The build without the feature `client` calls no service: an endpoint is refused by name.

use crate::config::RewardsConfig;
use crate::error::RewardError;
use crate::failures::Failures;
use crate::invalid::ReferenceFault;
use crate::poll::Stopped;
use crate::reference::Reference;
use crate::request::ScoreRequest;
use crossbeam_channel::Receiver;
use indexmap::IndexMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Never made.
pub(crate) enum Remote {}

impl Remote {
    pub fn connect(_: &RewardsConfig, _: IndexMap<String, String>) -> Result<Remote, RewardError> {
        Err(RewardError::Config(
            "rewards.endpoint: this build scores in its own process only (build with the feature `client`)".into(),
        ))
    }

    pub fn failures(&self) -> Arc<Failures> {
        match *self {}
    }

    pub fn serve(&self, _: &Receiver<ScoreRequest>, _: &AtomicBool) {
        match *self {}
    }

    pub fn check(&self, _: &str, _: &Reference) -> Result<(), ReferenceFault> {
        match *self {}
    }

    pub fn check_unless(
        self: &Arc<Self>,
        _: &str,
        _: &Arc<Reference>,
        _: &dyn Fn() -> bool,
    ) -> Result<Result<(), ReferenceFault>, Stopped> {
        match **self {}
    }

    pub fn lost(&self) -> Option<RewardError> {
        match *self {}
    }
}
