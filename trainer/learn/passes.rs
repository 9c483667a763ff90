//! Passes in step: where blocks travel among ranks, every rank does as many passes as any other, in one order, the
//! last ones perhaps without rows of its own. And weights that stay gathered while they are sampled from.

use std::rc::Rc;

use models::{Decoder, TOWER_UNIT, Tape};
use tch::Device;

use super::learner::{Learner, guarded};
use super::ranks::Ranks;
use super::shares::ShardLayout;
use super::unit_traffic::UnitTraffic;
use crate::TrainError;
use crate::config::ShardingConfig;

impl Learner {
    /// How many passes this rank makes for `own` micro-batches: where ranks must keep step, as many as the rank with
    /// the most; those beyond its own are [`Self::idle`] or [`Self::idle_log_probs`].
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn passes(&self, own: usize) -> Result<usize, TrainError> {
        if self.traffic.is_none() {
            return Ok(own);
        }
        let all = self.ranks.all_gather(&[own as f64])?;
        let most = all.iter().flatten().fold(0.0, |a: f64, b| a.max(*b));
        Ok(most as usize)
    }

    /// Whether to stop before the next pass: this rank's own wish, or where ranks must keep step that of any.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn stops(&self, own: bool) -> Result<bool, TrainError> {
        match self.traffic {
            None => Ok(own),
            Some(_) => Ok(self.ranks.any(own)?),
        }
    }

    /// A pass of [`Self::forward_backward`] without rows, where other ranks have some.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn idle(&mut self) -> Result<(), TrainError> {
        if self.traffic.is_none() {
            return Ok(());
        }
        guarded(&self.model, || {
            let (model, params) = (&*self.model, &self.model.params);
            Tape::idle_forward(model);
            let unit = model.config.head_unit();
            params.gradient_room(unit);
            params.within(unit, None, || ());
            if !model.config.tied {
                params.gradient_ready(unit);
            }
            Tape::idle_backward(model);
            params.gradient_room(TOWER_UNIT);
            params.gradient_ready(TOWER_UNIT);
        })
    }

    /// A pass of [`Self::log_probs`] under `model` without rows, where other ranks have some.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn idle_log_probs(model: &Decoder) -> Result<(), TrainError> {
        guarded(model, || {
            Tape::idle_forward(model);
            model.params.within(model.config.head_unit(), None, || ());
        })
    }

    /// Has all weights in memory, as sampling and saving need them, until what this gives is dropped. All ranks
    /// call it together.
    ///
    /// # Errors
    /// A lost rank, named; no memory.
    pub fn whole(&self) -> Result<WholeWeights, TrainError> {
        if let Some(traffic) = &self.traffic {
            traffic.bring_all()?;
        }
        Ok(WholeWeights(self.traffic.clone()))
    }
}

/// While it lives, a policy's weights are all in memory.
#[must_use = "the weights go when it is dropped"]
#[derive(Debug)]
pub struct WholeWeights(Option<Rc<UnitTraffic>>);

impl Drop for WholeWeights {
    fn drop(&mut self) {
        if let Some(traffic) = &self.0 {
            traffic.release_all();
        }
    }
}

/// Shares the weights of a reference policy out among the ranks, or puts them on the host, as `sharding` asks.
///
/// # Errors
/// No memory.
pub fn share_reference(
    mut model: Decoder,
    ranks: &Rc<Ranks>,
    sharding: &ShardingConfig,
) -> Result<Decoder, TrainError> {
    let offloaded = sharding.offload_reference && model.device() != Device::Cpu;
    let shared = sharding.stage == 3;
    if !offloaded && !shared {
        return Ok(model);
    }
    let home = match offloaded {
        true => Device::Cpu,
        false => model.device(),
    };
    place_reference(&mut model, ranks, (shared, home))?;
    Ok(model)
}

/// Puts this rank's share of the weights of `model`, or with `shared` false all of them, at `home`, from where its
/// passes bring them block by block.
///
/// # Errors
/// No memory.
pub fn place_reference(
    model: &mut Decoder,
    ranks: &Rc<Ranks>,
    (shared, home): (bool, Device),
) -> Result<(), TrainError> {
    let units = model.params.units();
    let (ranks, place) = match shared {
        true => (ranks.clone(), (ranks.rank(), ranks.size())),
        // Nothing is sent: every rank has all of it.
        false => (Rc::new(Ranks::single(ranks.device())), (0, 1)),
    };
    let layout = ShardLayout::new(&units, place);
    UnitTraffic::looking(model, ranks, layout, home).map(drop)
}
