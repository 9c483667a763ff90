//! What all ranks must have alike before they compute together, and what rank 0 decides for all.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::inputs::Inputs;
use crate::learn::Ranks;

/// A result as ranks tell it each other.
#[derive(Debug, Serialize, Deserialize)]
enum Told<T> {
    Fine(T),
    Input(String),
    Other(String),
}

impl<T> Told<T> {
    fn of(result: Result<T, &TrainError>) -> Self {
        match result {
            Ok(value) => Self::Fine(value),
            Err(error) if error.is_input() => Self::Input(error.to_string()),
            Err(error) => Self::Other(error.to_string()),
        }
    }

    fn result(self) -> Result<T, TrainError> {
        match self {
            Self::Fine(value) => Ok(value),
            Self::Input(text) => Err(TrainError::Input(text)),
            Self::Other(text) => Err(TrainError::Other(text)),
        }
    }
}

fn unreadable(error: serde_json::Error) -> TrainError {
    TrainError::Other(format!("what a rank told: {error}"))
}

/// What rank 0 decides, on every rank; its failure is everyone's.
///
/// # Errors
/// Rank 0's, or a lost rank.
pub(crate) fn decide<T: Serialize + DeserializeOwned>(
    ranks: &Ranks,
    on_leader: impl FnOnce() -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    if ranks.size() == 1 {
        return on_leader();
    }
    if ranks.is_leader() {
        let decided = on_leader();
        let bytes = serde_json::to_vec(&Told::of(decided.as_ref())).map_err(unreadable)?;
        ranks.broadcast_from_leader(&bytes)?;
        return decided;
    }
    let bytes = ranks.broadcast_from_leader(&[])?;
    let told: Told<T> = serde_json::from_slice(&bytes).map_err(unreadable)?;
    told.result()
}

/// This rank's inputs, which are every rank's.
///
/// # Errors
/// This rank's own; what another rank could not open; inputs that are not the same, with their names and the
/// ranks.
pub(crate) fn agree(ranks: &Ranks, own: Result<Inputs, TrainError>) -> Result<Inputs, TrainError> {
    if ranks.size() == 1 {
        return own;
    }
    let bytes = serde_json::to_vec(&Told::of(own.as_ref())).map_err(unreadable)?;
    let all = ranks.gather_to_leader(&bytes)?;
    let verdict = decide(ranks, || {
        let told: Result<Vec<Told<Inputs>>, _> = all
            .iter()
            .map(|bytes| serde_json::from_slice(bytes))
            .collect();
        judge(told.map_err(unreadable)?)
    });
    let own = own?;
    verdict.map(|()| own)
}

fn judge(all: Vec<Told<Inputs>>) -> Result<(), TrainError> {
    let mut opened = Vec::new();
    for (rank, told) in all.into_iter().enumerate() {
        match told {
            Told::Fine(inputs) => opened.push(inputs),
            Told::Input(text) => {
                return Err(TrainError::Input(format!(
                    "rank {rank} could not start: {text}"
                )));
            }
            Told::Other(text) => {
                return Err(TrainError::Other(format!(
                    "rank {rank} could not start: {text}"
                )));
            }
        }
    }
    let mut said = Vec::new();
    for (rank, inputs) in opened.iter().enumerate().skip(1) {
        for change in opened[0].changes(inputs) {
            said.push(format!("{} of rank {rank} is not rank 0's", change.key));
        }
    }
    match said.is_empty() {
        true => Ok(()),
        false => Err(TrainError::Input(format!(
            "the ranks were not given the same files: {}; copy them to every machine anew, or use a folder that all share",
            said.join("; ")
        ))),
    }
}

/// Checks that all ranks see the same files at `path`, by what each makes of them.
///
/// # Errors
/// The ranks that do not, on every rank.
pub(crate) fn see_the_same(ranks: &Ranks, path: &Path, own: Option<u32>) -> Result<(), TrainError> {
    let told = own.map_or(-1.0, f64::from);
    let all = ranks.all_gather(&[told])?;
    let differs = |(_, told): &(usize, &Vec<f64>)| told[..] != all[0][..];
    let blind: Vec<String> = all
        .iter()
        .enumerate()
        .filter(differs)
        .map(|(rank, _)| rank.to_string())
        .collect();
    if blind.is_empty() {
        return Ok(());
    }
    Err(TrainError::Input(format!(
        "rank {} does not see what rank 0 sees at {}: the run folder must be one folder that all machines share, and their view of it must be up to date",
        blind.join(", "),
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_differ_or_fail_are_named() {
        let inputs = |model: &str| Inputs {
            model: Some(model.into()),
            ..Inputs::default()
        };
        assert!(judge(vec![Told::Fine(inputs("1")), Told::Fine(inputs("1"))]).is_ok());
        let told = judge(vec![Told::Fine(inputs("1")), Told::Fine(inputs("2"))]).unwrap_err();
        assert!(told.is_input());
        assert!(told.to_string().contains("model.path of rank 1"), "{told}");
        let told = judge(vec![Told::Fine(inputs("1")), Told::Other("no file".into())]).unwrap_err();
        assert!(!told.is_input());
        assert!(
            told.to_string().contains("rank 1 could not start: no file"),
            "{told}"
        );
    }
}
