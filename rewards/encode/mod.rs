//! Encoders beside the scoring threads: each network on a thread of its own behind a channel, asked for
//! features that come back later. With the feature `perceptual` they run ([`enabled`]); without it,
//! a rubric that needs one is refused by name ([`disabled`]).

mod config;
mod ticket;

#[cfg(feature = "perceptual")]
mod batch;
#[cfg(feature = "perceptual")]
mod enabled;
#[cfg(feature = "perceptual")]
mod network;
#[cfg(feature = "perceptual")]
mod shelf;
#[cfg(feature = "perceptual")]
use enabled as runtime;
#[cfg(not(feature = "perceptual"))]
mod disabled;
#[cfg(not(feature = "perceptual"))]
use disabled as runtime;

pub use config::{EncoderConfig, EncoderDtype, EncoderInit, Preprocess};
pub(crate) use runtime::Encoders;
pub(crate) use ticket::Ticket;

use crate::config::{RewardConfig, TaskScoring};
use crate::device::DeviceChoice;
use crate::error::RewardError;
use crate::perceptual::{LpipsScale, PictureFeature};
use indexmap::IndexMap;

/// The encoders of a run, and where those compute that do not say.
#[derive(Clone, Debug, Default)]
pub struct EncoderSet {
    pub encoders: IndexMap<String, EncoderConfig>,
    /// What `auto` stands for in their sections; where that is `auto` too, the CPU.
    pub device: DeviceChoice,
}

/// What went through an encoder so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderCount {
    /// Forward passes.
    pub passes: u64,
    /// Pictures and texts in them, the copies that fill a pass up not counted.
    pub items: u64,
}

/// What a reward asks of its encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Features of pictures.
    Pictures,
    /// Features of texts.
    Texts,
    /// Features of pictures by DreamSim's ensemble.
    DreamSim,
    /// Both, in one space.
    Both,
    /// LPIPS' distances.
    Distances,
}

/// What of a picture is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Feature {
    Pooled(PictureFeature),
    /// The network's own.
    Own,
}

/// How LPIPS is fed.
pub(crate) type LpipsUse = LpipsScale;

/// Which encoders the tasks use, and for what; an unknown name is refused.
pub(crate) fn used<'a>(
    set: &'a EncoderSet,
    tasks: &IndexMap<String, TaskScoring>,
) -> Result<IndexMap<&'a str, Needs>, RewardError> {
    let mut found: IndexMap<&str, Needs> = IndexMap::new();
    for (task, scoring) in tasks {
        for (key, reward) in scoring.rules() {
            let Some((name, needs)) = reward.encoder() else {
                continue;
            };
            let key = format!("tasks.{task}.{key}.encoder");
            let Some((name, _)) = set.encoders.get_key_value(name) else {
                let known: Vec<&String> = set.encoders.keys().collect();
                return Err(RewardError::Config(format!(
                    "{key}: `{name}` is not in encoders {known:?}"
                )));
            };
            let needs = match (found.get(name.as_str()), needs) {
                (None, needs) => needs,
                (Some(&before), needs) if before == needs => needs,
                (Some(Needs::Distances), _) | (_, Needs::Distances) => {
                    return Err(RewardError::Config(format!(
                        "{key}: `{name}` cannot serve LPIPS and another reward (give each its own encoder)"
                    )));
                }
                (Some(Needs::DreamSim), Needs::Pictures)
                | (Some(Needs::Pictures), Needs::DreamSim) => Needs::DreamSim,
                _ => Needs::Both,
            };
            found.insert(name, needs);
        }
    }
    Ok(found)
}

impl RewardConfig {
    /// The name of its encoder and what it asks of it.
    pub(crate) fn encoder(&self) -> Option<(&str, Needs)> {
        match self {
            RewardConfig::Dino(r) => Some((&r.encoder, Needs::Pictures)),
            RewardConfig::ImageText(r) => Some((&r.encoder, Needs::Both)),
            RewardConfig::Lpips(r) => Some((&r.encoder, Needs::Distances)),
            RewardConfig::DreamSim(r) => Some((&r.encoder, Needs::DreamSim)),
            RewardConfig::TextSimilarity(r) => Some((&r.encoder, Needs::Texts)),
            RewardConfig::BertScore(r) => Some((&r.encoder, Needs::Texts)),
            _ => None,
        }
    }

    /// Name of the encoder that it asks, for those who check configs.
    pub fn encoder_name(&self) -> Option<&str> {
        self.encoder().map(|(name, _)| name)
    }
}
