//! The engine of a stage: of several ranks whose completions come from servers or samplers, one gives these the weights and
//! the others hear of it.

use std::cell::RefCell;
use std::rc::Rc;

use rollout::engine::{
    self, Capabilities, EngineOptions, EngineStats, Finished, Placement, SamplerPool, Submission,
    WeightBlocks,
};
use rollout::{Engine, RolloutError};

use crate::config::RolloutConfig;
use crate::learn::Ranks;

/// An engine whose servers several ranks share.
struct RankedEngine {
    inner: Box<dyn Engine>,
    ranks: Rc<Ranks>,
}

/// Opens the engine of a stage, of the ranks and the samplers beside them; `options.servers` is filled in here.
///
/// # Errors
/// Those of [`engine::open`]; no samplers where the stage samples by them.
pub(crate) fn open(
    rollout: Option<&RolloutConfig>,
    mut options: EngineOptions,
    (ranks, samplers): (&Rc<Ranks>, Option<&Rc<RefCell<SamplerPool>>>),
) -> Result<Box<dyn Engine>, RolloutError> {
    let config = rollout.map(|rollout| rollout.engine).unwrap_or_default();
    options.servers = rollout.map(RolloutConfig::servers).unwrap_or_default();
    let of_all = &mut options.servers.config.in_flight;
    *of_all = (*of_all / ranks.size()).max(1);
    if options.servers.config.sleep && ranks.size() > 1 {
        return Err(RolloutError::Input(
            "rollout.servers.sleep: with several ranks one would put the servers to sleep that another samples with".into(),
        ));
    }
    let inner = match rollout.filter(|rollout| rollout.placement == Placement::Dedicated) {
        None => engine::open(config, options),
        Some(rollout) => samplers
            .map(|pool| engine::dedicated(options, rollout.samplers.clone(), pool.clone()))
            .ok_or_else(|| RolloutError::Input("rollout.placement: there are no samplers".into())),
    };
    if !rollout.is_some_and(RolloutConfig::is_elsewhere) || ranks.size() == 1 {
        return inner;
    }
    let all = ranks.any(inner.is_err()).map_err(lost)?;
    let inner = inner?;
    match all {
        true => Err(RolloutError::Server(
            "another rank cannot reach the servers".into(),
        )),
        false => Ok(Box::new(RankedEngine {
            inner,
            ranks: ranks.clone(),
        })),
    }
}

/// A rank that is gone while weights are given.
fn lost(error: torch_ext::TorchError) -> RolloutError {
    RolloutError::Server(format!("while the servers were given weights: {error}"))
}

impl Engine for RankedEngine {
    fn submit(&mut self, submission: Submission) -> Result<(), RolloutError> {
        self.inner.submit(submission)
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        self.inner.next_unless(stop)
    }

    fn poll(&mut self) -> Result<Option<Finished>, RolloutError> {
        self.inner.poll()
    }

    fn settle(&mut self) -> Result<(), RolloutError> {
        self.inner.settle()
    }

    fn rest_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<(), RolloutError> {
        self.inner.rest_unless(stop)
    }

    fn sync(&mut self, weights: &dyn WeightBlocks, version: u64) -> Result<(), RolloutError> {
        self.settle()?;
        if !self.ranks.is_leader() {
            self.inner.announce(version);
        }
        // Without sampling ahead none is asked for a completion with the old weights after this.
        self.ranks.barrier().map_err(lost)?;
        let given = match self.ranks.is_leader() {
            true => self.inner.sync(weights, version),
            false => Ok(()),
        };
        let failed = self.ranks.any(given.is_err()).map_err(lost)?;
        given?;
        if failed {
            return Err(RolloutError::Server(
                "rank 0 could not give the servers new weights".into(),
            ));
        }
        let note = self.ranks.broadcast_from_leader(&self.inner.synced());
        let note = note.map_err(lost)?;
        match self.ranks.is_leader() {
            true => Ok(()),
            false => self.inner.follow(&note, version),
        }
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
