//! What servers sample with at the moment, by which answers of other weights are told.

use serde::{Deserialize, Serialize};

use super::answer::{ServerAnswer, WrittenBy};
use super::dialect::{SharedWeights, Writer};

/// What servers sample with at the moment.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Current {
    /// Which weights write.
    pub(super) writer: Writer,
    /// What a completion's version must be, where servers say it.
    pub(super) version: Option<String>,
    /// Where they lie, for a server that has lost them.
    pub(super) weights: Option<SharedWeights>,
    /// What the greedy probe must answer.
    pub(super) probe: Option<ServerAnswer>,
    /// Whether this process sends servers their weights again: of several ranks the one that sent them.
    #[serde(skip)]
    pub(super) heals: bool,
}

/// The run's part and the number of a version's name, which ends with `-v` and the number.
pub(super) fn numbered(name: &str) -> Option<(&str, u64)> {
    let (run, number) = name.rsplit_once("-v")?;
    Some((run, number.parse().ok()?))
}

impl Current {
    /// The number of these weights; none before there are any.
    pub(super) fn number(&self) -> Option<u64> {
        let name = match &self.writer {
            Writer::Adapter(_, adapter) => Some(adapter),
            Writer::Base(_) => self.version.as_ref(),
        };
        name.and_then(|name| Some(numbered(name)?.1))
    }

    /// Whether the right weights wrote an answer: these, which it was asked of, or newer ones of the run up to number
    /// `newest`, which came while it was written.
    ///
    /// # Errors
    /// Which did.
    pub(super) fn wrote(&self, answer: &ServerAnswer, newest: u64) -> Result<(), String> {
        if let Writer::Adapter(_, adapter) = &self.writer {
            return match &answer.adapter {
                Some(other) if other != adapter => {
                    Err(format!("`{other}` wrote it where `{adapter}` should have"))
                }
                _ => Ok(()),
            };
        }
        let Some(version) = &self.version else {
            return Ok(());
        };
        let own = numbered(version);
        let is_right = |by: &WrittenBy| match (own, numbered(&by.version)) {
            (Some((run, first)), Some((other, number))) => {
                run == other && (first..=newest.max(first)).contains(&number)
            }
            _ => by.version == *version,
        };
        match answer.versions.iter().all(is_right) && !answer.versions.is_empty() {
            true => Ok(()),
            false => {
                let versions: Vec<&str> = answer.versions.iter().map(|by| &*by.version).collect();
                Err(format!(
                    "weights {versions:?} wrote it where {version:?} should have"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::http::answer::{ServerEnd, UsedPrompt};

    #[test]
    fn newer_weights_of_the_run_may_go_on_with_a_completion_and_no_others() {
        let current = Current {
            writer: Writer::Base("policy".into()),
            version: Some("svgrl-a-v3".into()),
            weights: None,
            probe: None,
            heals: true,
        };
        let wrote = |versions: &[&str], newest| {
            let by = |name: &&str| WrittenBy {
                version: (*name).to_owned(),
                end: None,
            };
            let answer = ServerAnswer {
                ids: Vec::new(),
                logprobs: Vec::new(),
                end: ServerEnd::Stop,
                prompt: UsedPrompt::Count(1),
                versions: versions.iter().map(by).collect(),
                adapter: None,
            };
            current.wrote(&answer, newest).is_ok()
        };
        assert!(wrote(&["svgrl-a-v3"], 3) && wrote(&["svgrl-a-v3", "svgrl-a-v4"], 4));
        assert!(wrote(&["svgrl-a-v5"], 5));
        for (versions, newest) in [
            (&["svgrl-a-v2"][..], 4),
            (&["svgrl-a-v3", "svgrl-a-v4"], 3),
            (&["svgrl-b-v3"], 3),
            (&["default"], 3),
            (&[], 3),
        ] {
            assert!(!wrote(versions, newest), "{versions:?} {newest}");
        }
        assert_eq!(current.number(), Some(3));
    }
}
