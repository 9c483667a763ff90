//! What a server is asked and what it answers, in no server's own words.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::Sampling;

/// One completion to ask for.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// What the completion is called in the server's log.
    pub(super) id: String,
    /// The prompt's ids, one placeholder for each picture.
    pub(super) ids: Arc<[i64]>,
    /// The ids that the server must have used: image tokens expanded.
    pub(super) expanded: Arc<[i64]>,
    /// The pictures as data URIs.
    pub(super) pictures: Arc<[String]>,
    /// How tokens are drawn; its stop strings are those that the server is to look for.
    pub(super) sampling: Sampling,
    /// Token ids that end the completion; none: it ends at its greatest length alone.
    pub(super) stop_ids: Arc<[i64]>,
    /// Token ids that are kept from being drawn.
    pub(super) banned: Arc<[i64]>,
    /// Keys the server's random numbers, in 0..2^63.
    pub(super) seed: u64,
}

/// Why a server ended a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ServerEnd {
    /// A stop token or a stop string.
    Stop,
    /// The greatest length.
    Length,
    /// Somebody asked for it, or the server shut down.
    Abort,
}

/// A completion as a server gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ServerAnswer {
    /// Token ids.
    pub(super) ids: Vec<i64>,
    /// The log-probability of each, as the server counts it.
    pub(super) logprobs: Vec<f32>,
    /// Why it ended.
    pub(super) end: ServerEnd,
    /// The prompt's ids as the server used them; how many they were, where it says no more.
    pub(super) prompt: UsedPrompt,
    /// The versions of the model's weights that wrote it, in order, where the server says.
    pub(super) versions: Vec<WrittenBy>,
    /// The name of the model or the adapter that wrote it, where the server says.
    pub(super) adapter: Option<String>,
}

/// Which weights wrote a stretch of a completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WrittenBy {
    /// What they are called.
    pub(super) version: String,
    /// Where their tokens end; none where the server does not say.
    pub(super) end: Option<usize>,
}

impl WrittenBy {
    /// A server's `weight_versions`; none where it says nothing of them.
    pub(super) fn read_all(spans: &Value) -> Vec<Self> {
        let spans = spans.as_array().into_iter().flatten();
        spans.filter_map(Self::read).collect()
    }

    /// An entry of them, or a version that wrote all.
    pub(super) fn read(span: &Value) -> Option<Self> {
        let version = span["version"].as_str().or_else(|| span.as_str())?;
        Some(Self {
            version: version.to_owned(),
            end: span["end"].as_u64().map(|end| end as usize),
        })
    }
}

/// What a server says of the prompt that it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UsedPrompt {
    /// Its ids.
    Ids(Vec<i64>),
    /// Their number.
    Count(usize),
}

impl ServerAnswer {
    /// Whether the numbers hang together: as many log-probabilities as ids, known ids, no more than was asked for.
    ///
    /// # Errors
    /// What does not.
    pub(super) fn check(&self, ask: &Ask, vocabulary: i64) -> Result<(), String> {
        let (ids, logprobs) = (self.ids.len(), self.logprobs.len());
        if ids != logprobs {
            return Err(format!(
                "{ids} token ids came with {logprobs} log-probabilities"
            ));
        }
        if self.end == ServerEnd::Abort {
            return Ok(());
        }
        let most = ask.sampling.max_new_tokens;
        if ids == 0 || ids > most {
            return Err(format!(
                "{ids} tokens came where 1 to {most} were asked for"
            ));
        }
        if self.end == ServerEnd::Length && ids < most {
            return Err(format!(
                "it ended at its greatest length with {ids} tokens of {most}"
            ));
        }
        if let Some(id) = self.ids.iter().find(|id| !(0..vocabulary).contains(*id)) {
            return Err(format!(
                "token id {id} is none of the policy's {vocabulary}"
            ));
        }
        match self
            .logprobs
            .iter()
            .find(|value| value.is_nan() || **value > 1e-3)
        {
            Some(value) => Err(format!("{value} is no log-probability")),
            None => Ok(()),
        }
    }

    /// Whether the server used the prompt that was meant.
    ///
    /// # Errors
    /// Both expansions.
    pub(super) fn check_prompt(&self, ask: &Ask) -> Result<(), String> {
        match &self.prompt {
            UsedPrompt::Ids(ids) if **ids == *ask.expanded => Ok(()),
            UsedPrompt::Count(count) if *count == ask.expanded.len() => Ok(()),
            UsedPrompt::Ids(ids) => {
                let pairs = ids.iter().zip(ask.expanded.iter());
                let same = pairs.take_while(|(theirs, ours)| theirs == ours).count();
                Err(format!(
                    "the server used other prompt ids than were meant, from place {same} on.\n  here  ({} ids): {:?}\n  there ({} ids): {ids:?}\n(another tokenizer or processor there, a template that is applied twice, or other bounds for pictures)",
                    ask.expanded.len(),
                    ask.expanded,
                    ids.len()
                ))
            }
            UsedPrompt::Count(count) => Err(format!(
                "the server used {count} prompt ids where {} were meant; here: {:?} (another processor there, or other bounds for pictures)",
                ask.expanded.len(),
                ask.expanded
            )),
        }
    }
}
