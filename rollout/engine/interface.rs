//! What is asked of an engine and what it answers: plain data, nothing of libtorch but the weights that
//! a sync hands over.

use std::sync::Arc;

use models::image::PromptImages;

use super::sampling::Sampling;
use super::weights::WeightBlocks;
use crate::{Completion, RolloutError};

/// One prompt to complete `samples` times.
#[derive(Debug, Clone)]
pub struct Request {
    /// The caller's number for it, given back with each completion.
    pub group: usize,
    /// Prompt token ids, not empty, image tokens expanded.
    pub ids: Arc<[i64]>,
    /// Its pictures, in their places among the ids.
    pub images: Option<Arc<PromptImages>>,
    /// Number of completions.
    pub samples: usize,
    /// The prompt's draw number in the run: keys the random numbers.
    pub draw: u64,
    /// For measurements: the exact length of each completion, whatever ends it otherwise.
    pub lengths: Option<Arc<[usize]>>,
}

/// Requests that are sampled alike.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The prompts.
    pub requests: Vec<Request>,
    /// How tokens are drawn and when completions end.
    pub sampling: Sampling,
    /// Keys the random numbers, with each request's draw and the completion's place in its group.
    pub seed: u64,
}

/// A completion that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// [`Request::group`].
    pub group: usize,
    /// Which of the group's completions.
    pub index: usize,
    /// The completion.
    pub completion: Completion,
}

/// What an engine has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EngineStats {
    /// Version of the weights it samples with, see [`Engine::sync`].
    pub policy_version: u64,
    /// Prompts that were run: one a group.
    pub prefills: u64,
    /// Tokens that were drawn.
    pub tokens: u64,
    /// Completions that gave way because the cache was full, and were drawn again.
    pub put_back: u64,
    /// The most pages of the cache that were taken at a time ([`models::KV_PAGE`] tokens each).
    pub peak_pages: u64,
    /// Tokens whose keys and values were copied within the cache.
    pub moved_rows: u64,
    /// Kernels and copies that one launch of the largest captured decoding step starts; 0 where none was captured.
    pub graph_nodes: u64,
    /// What servers elsewhere have done.
    pub servers: Option<ServerStats>,
}

/// What servers elsewhere have done since the engine was opened.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ServerStats {
    /// Seconds of the last sync, its probes among them.
    pub sync_s: f64,
    /// Bytes that it wrote or sent.
    pub sync_bytes: u64,
    /// The largest gap between a server's log-probability and the learner's in the probes after it.
    pub probe_gap: f64,
    /// Completions that were asked for again because a server failed.
    pub retried: u64,
    /// Completions that were drawn anew because they held an id that the policy never draws.
    pub redrawn: u64,
    /// Completions that new weights dropped and that were asked for again.
    pub dropped: u64,
}

/// What an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether prompts may show pictures.
    pub pictures: bool,
    /// Whether [`Request::lengths`] is honoured.
    pub exact_lengths: bool,
    /// Whether it works while nobody waits for it: several submissions may be under way, and [`Engine::poll`] says what
    /// has ended. An engine without this decodes when it is asked, one submission after the other.
    pub ahead: bool,
    /// Whether it decodes with the learner's own tensors, all of which must be in memory then.
    pub shares_weights: bool,
}

impl Submission {
    /// Whether an engine with these capabilities can take it: the first thing that `submit` asks.
    ///
    /// # Errors
    /// A prompt without tokens, sampling values out of bounds, pictures or exact lengths that the
    /// engine knows nothing of.
    pub fn check(&self, capabilities: Capabilities) -> Result<(), RolloutError> {
        self.sampling.check().map_err(RolloutError::Input)?;
        let refuse = |request: &Request, why: &str| {
            let prompt = request.group;
            Err(RolloutError::Input(format!("prompt {prompt} {why}")))
        };
        for request in &self.requests {
            if request.ids.is_empty() {
                return refuse(request, "has no tokens");
            }
            if request.images.is_some() && !capabilities.pictures {
                return refuse(request, "shows a picture to an engine that sees none");
            }
            if request.lengths.is_some() && !capabilities.exact_lengths {
                return refuse(request, "asks for lengths that this engine cannot keep");
            }
        }
        Ok(())
    }
}

/// Samples completions. What it holds is decided by the submissions alone, never by when the caller
/// asks for the next completion.
pub trait Engine {
    /// Queues requests; once all earlier ones are answered, unless it samples [ahead](Capabilities::ahead).
    ///
    /// # Errors
    /// A prompt that is empty or cannot fit, sampling values out of bounds, pictures for a policy
    /// that reads text only.
    fn submit(&mut self, submission: Submission) -> Result<(), RolloutError>;

    /// The next completion to end, decoding as far as needed; `None` when nothing is queued.
    ///
    /// # Errors
    /// libtorch's, out of memory for instance.
    fn next(&mut self) -> Result<Option<Finished>, RolloutError> {
        self.next_unless(&|| false)
    }

    /// [`Self::next`] that gives up when `stop` says so, asked between two tokens. What was queued is
    /// lost then, and further requests may be submitted.
    ///
    /// # Errors
    /// [`RolloutError::Stopped`]; those of [`Self::next`].
    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError>;

    /// The next completion that has ended by now, without waiting; nothing where an engine decodes only when asked.
    ///
    /// # Errors
    /// Those of [`Self::next`].
    fn poll(&mut self) -> Result<Option<Finished>, RolloutError> {
        Ok(None)
    }

    /// Waits for what is being written with the last weights and must not go on with others; every rank does so before
    /// [`Self::sync`].
    ///
    /// # Errors
    /// Those of [`Self::next`].
    fn settle(&mut self) -> Result<(), RolloutError> {
        Ok(())
    }

    /// This rank has the completions that it waited for and goes on to what all ranks do together; every rank says so of
    /// the same rollouts. Who is needed by ranks that wait for completions yet stays until they have them, or `stop`.
    ///
    /// # Errors
    /// Those of [`Self::next_unless`].
    fn rest_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<(), RolloutError> {
        let _ = stop;
        Ok(())
    }

    /// Samples with these weights from now on and calls them `version`. An engine elsewhere takes them
    /// block by block; one that shares the learner's tensors notes the number.
    ///
    /// # Errors
    /// Weights that do not arrive.
    fn sync(&mut self, weights: &dyn WeightBlocks, version: u64) -> Result<(), RolloutError>;

    /// Another rank is about to give the servers of this engine `version`, until [`Self::follow`] says that it has:
    /// completions that are under way may be written by it, and no others begin meanwhile.
    fn announce(&mut self, version: u64) {
        let _ = version;
    }

    /// What another rank's engine over the same servers has to know of the last [`Self::sync`]; nothing where each has
    /// weights of its own.
    fn synced(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Samples with what another rank's engine has synced as `version`, by what its [`Self::synced`] says.
    ///
    /// # Errors
    /// Words that are none of this engine's.
    fn follow(&mut self, note: &[u8], version: u64) -> Result<(), RolloutError> {
        let _ = (note, version);
        Err(RolloutError::Input(
            "this engine's weights are its own rank's".into(),
        ))
    }

    /// What it has done so far.
    fn stats(&self) -> EngineStats;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;
}
