//! Vision towers of policies: pictures in, rows in place of image tokens out.
//!
//! The tower and the projector behind it are two steps, so that a frozen tower's output can be
//! kept: [`Vision::look`] is the tower, [`Vision::project`] the projector. Attention runs within
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

pub use config::{Eyes, Family, ImageTokens, InternVit, Names, VisionConfig, VisionNetwork};
pub use layers::{Activation, NormKind};
pub use types::{Pixels, Seen};

use crate::image::{Picture, Processor};
use crate::input::Features;
use crate::params::{Layout, ParamTable};

/// A policy's eyes.
pub struct Vision {
    tower: Tower,
    /// How pictures become its input.
    pub processor: Processor,
    looked: Cell<u64>,
}

enum Tower {
    Qwen3(qwen3_vl::Tower),
    Qwen25(qwen2_5_vl::Tower),
    Intern(internvl::Tower),
}

/// The leaves of a tower, before the buffer exists.
pub(crate) enum TowerLeaves {
    Qwen3(qwen3_vl::Leaves),
    Qwen25(qwen2_5_vl::Leaves),
    Intern(internvl::Leaves),
}

impl TowerLeaves {
    pub(crate) fn declare(
        layout: &mut Layout,
        config: &VisionConfig,
        (names, out): (Names, i64),
    ) -> Self {
        match &config.network {
            VisionNetwork::Qwen3Vl { .. } => {
                Self::Qwen3(qwen3_vl::Leaves::declare(layout, config, (names, out)))
            }
            VisionNetwork::Qwen25Vl { .. } => {
                Self::Qwen25(qwen2_5_vl::Leaves::declare(layout, config, (names, out)))
            }
            VisionNetwork::InternVl(intern) => Self::Intern(internvl::Leaves::declare(
                layout,
                (config, intern),
                (names, out),
            )),
        }
    }

    pub(crate) fn bind(self, params: &ParamTable, eyes: &Eyes) -> Vision {
        let config = &eyes.tower;
        Vision {
            tower: match self {
                Self::Qwen3(leaves) => Tower::Qwen3(leaves.bind(params, config)),
                Self::Qwen25(leaves) => Tower::Qwen25(leaves.bind(params, config)),
                Self::Intern(leaves) => Tower::Intern(leaves.bind(params, config)),
            },
            processor: eyes.processor.clone(),
            looked: Cell::new(0),
        }
    }
}

impl Vision {
    /// `pictures` as the tower takes them.
    pub fn pixels(&self, pictures: &[&Picture], place: (Kind, Device)) -> Pixels {
        Pixels {
            data: self.processor.tensor(pictures, place),
            grids: pictures.iter().map(|picture| picture.grid).collect(),
        }
    }

    /// Runs the tower.
    pub fn look(&self, pixels: &Pixels) -> Seen {
        self.looked
            .set(self.looked.get() + pixels.grids.len() as u64);
        let states = match &self.tower {
            Tower::Qwen3(tower) => tower.run(pixels),
            Tower::Qwen25(tower) => tower.run(pixels),
            Tower::Intern(tower) => tower.run(pixels),
        };
        Seen::new(states)
    }

    /// Runs the projector.
    pub fn project(&self, seen: &Seen) -> Features {
        match &self.tower {
            Tower::Qwen3(tower) => tower.project(seen.states()),
            Tower::Qwen25(tower) => tower.project(seen.states()),
            Tower::Intern(tower) => tower.project(seen.states()),
        }
    }

    /// Pictures that went through the tower so far, whatever for.
    pub fn looked(&self) -> u64 {
        self.looked.get()
    }
}
