//! Where completions come from: one trait for the engine in this process, for dedicated workers
//! and for external servers.

pub mod local;

use std::rc::Rc;
use std::sync::Arc;

use models::EncodedImages;

use crate::{Completion, RolloutError};

/// One prompt to complete `samples` times.
#[derive(Debug, Clone)]
pub struct Request {
    /// The caller's number for it, given back with each completion.
    pub group: usize,
    /// Prompt token ids, not empty.
    pub ids: Arc<[i64]>,
    /// Its pictures, looked at.
    pub view: Option<Rc<EncodedImages>>,
    /// Number of completions.
    pub samples: usize,
    /// The prompt's draw number in the run: keys the random numbers.
    pub draw: u64,
    /// For measurements: the exact length of each completion, whatever ends it otherwise.
    pub lengths: Option<Arc<[usize]>>,
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

/// Samples completions. What it holds is decided by the requests alone, never by when the caller
/// asks for the next completion.
pub trait Engine {
    /// Queues requests.
    ///
    /// # Errors
    /// A prompt that is empty or cannot fit.
    fn submit(&mut self, requests: Vec<Request>) -> Result<(), RolloutError>;

    /// The next completion to end, decoding as far as needed; `None` when nothing is queued.
    ///
    /// # Errors
    /// libtorch's, out of memory for instance.
    fn next(&mut self) -> Result<Option<Finished>, RolloutError> {
        self.next_unless(&|| false)
    }

    /// [`Self::next`] that gives up when `stop` says so, asked between two tokens. What was
    /// decoded is lost then: the engine is of no more use.
    ///
    /// # Errors
    /// [`RolloutError::Stopped`]; those of [`Self::next`].
    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError>;
}
