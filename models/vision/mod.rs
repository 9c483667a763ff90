//! Vision towers of policies: pictures in, rows in place of image tokens out.
//!
//! The tower and the projector behind it are two steps, so that a frozen tower's output can be
//! kept: [`Vision::encode`] is the tower, [`Vision::project`] the projector. Attention runs within
//! each picture; nothing is padded. Left out: video.

mod config;
mod fit;
mod internvl;
mod layers;
mod qwen;
mod qwen2_5_vl;
mod qwen3_vl;
mod read;
mod types;

use std::cell::Cell;

use tch::{Device, Kind};

pub(crate) use config::TowerBefore;
pub use config::{
    ImageTokens, InternVit, ModelFamily, VisionConfig, VisionNetwork, VisionSetup, WeightNaming,
};
pub use layers::NormKind;
pub use types::{Pixels, VisionHidden};

use crate::image::{ProcessedPicture, Processor};
use crate::input::Features;
use crate::lora::{AdapterMode, AdapterPass};
use crate::param_layout::ParamLayout;
use crate::params::ParamTable;

/// What sees pictures for a policy.
pub struct Vision {
    tower: Tower,
    /// How pictures become its input.
    pub processor: Processor,
    encoded: Cell<u64>,
}

enum Tower {
    Qwen3(qwen3_vl::Qwen3Tower),
    Qwen25(qwen2_5_vl::Qwen25Tower),
    Intern(internvl::InternTower),
}

/// The parameters of a tower, before the buffers exist.
pub(crate) enum TowerParams {
    Qwen3(qwen3_vl::Qwen3Params),
    Qwen25(qwen2_5_vl::Qwen25Params),
    Intern(internvl::InternParams),
}

impl TowerParams {
    pub(crate) fn declare(layout: &mut ParamLayout, tower: TowerBefore) -> Self {
        match &tower.config.network {
            VisionNetwork::Qwen3Vl { .. } => {
                Self::Qwen3(qwen3_vl::Qwen3Params::declare(layout, tower))
            }
            VisionNetwork::Qwen25Vl { .. } => {
                Self::Qwen25(qwen2_5_vl::Qwen25Params::declare(layout, tower))
            }
            VisionNetwork::InternVl(intern) => {
                Self::Intern(internvl::InternParams::declare(layout, tower, intern))
            }
        }
    }

    pub(crate) fn bind(self, params: &ParamTable, setup: &VisionSetup) -> Vision {
        let config = &setup.tower;
        Vision {
            tower: match self {
                Self::Qwen3(tower) => Tower::Qwen3(tower.bind(params, config)),
                Self::Qwen25(tower) => Tower::Qwen25(tower.bind(params, config)),
                Self::Intern(tower) => Tower::Intern(tower.bind(params, config)),
            },
            processor: setup.processor.clone(),
            encoded: Cell::new(0),
        }
    }
}

impl Vision {
    /// `pictures` as the tower takes them.
    pub fn pixels(&self, pictures: &[&ProcessedPicture], place: (Kind, Device)) -> Pixels {
        Pixels {
            data: self.processor.tensor(pictures, place),
            grids: pictures.iter().map(|picture| picture.grid).collect(),
        }
    }

    /// Runs the tower, whose adapters do as `mode` says.
    pub fn encode(&self, pixels: &Pixels, mode: AdapterMode) -> VisionHidden {
        let pass = AdapterPass { mode, rows: None };
        self.encoded
            .set(self.encoded.get() + pixels.grids.len() as u64);
        let states = match &self.tower {
            Tower::Qwen3(tower) => tower.run(pixels, pass),
            Tower::Qwen25(tower) => tower.run(pixels, pass),
            Tower::Intern(tower) => tower.run(pixels, pass),
        };
        VisionHidden::new(states)
    }

    /// Runs the projector, whose adapters do as `mode` says.
    pub fn project(&self, hidden: &VisionHidden, mode: AdapterMode) -> Features {
        let pass = AdapterPass { mode, rows: None };
        match &self.tower {
            Tower::Qwen3(tower) => tower.project(hidden.states(), pass),
            Tower::Qwen25(tower) => tower.project(hidden.states(), pass),
            Tower::Intern(tower) => tower.project(hidden.states(), pass),
        }
    }

    /// Pictures that went through the tower so far, whatever for.
    pub fn images_encoded(&self) -> u64 {
        self.encoded.get()
    }
}
