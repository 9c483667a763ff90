//! What tasks need of encoders, and whether one network can give it all.

use super::EncoderSet;
use crate::error::RewardError;
use indexmap::IndexMap;
use std::fmt;

/// An encoder that somebody needs.
#[derive(Clone, Debug)]
pub(crate) struct EncoderNeed {
    /// The config's key that names it, for what is said about it.
    pub key: String,
    /// Its name.
    pub encoder: String,
    /// What it is asked for.
    pub what: EncoderUse,
}

/// What an encoder is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncoderUse {
    /// Features of pictures.
    Pictures,
    /// Features of texts.
    Texts,
    /// Features of pictures by DreamSim's ensemble.
    DreamSim,
    /// Both, in one space.
    Both,
    /// Distances of pictures by this network.
    Distances(DistanceKind),
}

/// Networks that compare two pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DistanceKind {
    Lpips,
    Dists,
}

impl fmt::Display for DistanceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DistanceKind::Lpips => "LPIPS",
            DistanceKind::Dists => "DISTS",
        })
    }
}

impl EncoderUse {
    /// What serves both; else what compares distances and serves nothing else.
    fn and(self, other: EncoderUse) -> Result<EncoderUse, DistanceKind> {
        match (self, other) {
            (a, b) if a == b => Ok(a),
            (EncoderUse::Distances(network), _) | (_, EncoderUse::Distances(network)) => {
                Err(network)
            }
            (EncoderUse::DreamSim, EncoderUse::Pictures)
            | (EncoderUse::Pictures, EncoderUse::DreamSim) => Ok(EncoderUse::DreamSim),
            (
                EncoderUse::Pictures | EncoderUse::Texts | EncoderUse::DreamSim | EncoderUse::Both,
                _,
            ) => Ok(EncoderUse::Both),
        }
    }
}

/// The encoders that are needed, and for what.
///
/// # Errors
/// An unknown name; one network that cannot serve all who need it. The key is named.
pub(super) fn used<'a>(
    set: &'a EncoderSet,
    needs: &[EncoderNeed],
) -> Result<IndexMap<&'a str, EncoderUse>, RewardError> {
    let mut found: IndexMap<&str, EncoderUse> = IndexMap::new();
    for EncoderNeed { key, encoder, what } in needs {
        let Some((name, _)) = set.encoders.get_key_value(encoder) else {
            let known: Vec<&String> = set.encoders.keys().collect();
            return Err(RewardError::Config(format!(
                "{key}: `{encoder}` is not in encoders {known:?}"
            )));
        };
        let before = found.get(name.as_str()).copied().unwrap_or(*what);
        let both = before.and(*what).map_err(|network| {
            RewardError::Config(format!(
                "{key}: `{name}` cannot serve {network} and another reward (give each its own encoder)"
            ))
        })?;
        found.insert(name, both);
    }
    Ok(found)
}
