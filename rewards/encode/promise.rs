//! A value that another thread will give: a feature of unit length, or one number.

use crate::poll::POLL;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// What was computed, or why it could not be.
pub(crate) type EncodeResult = Result<Arc<[f32]>, NoAnswer>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// What was asked about is nothing that the network reads: its own fault.
    #[cfg_attr(
        not(feature = "perceptual"),
        expect(dead_code, reason = "nobody is asked")
    )]
    Refused(Arc<str>),
    /// The network, its device or its thread failed.
    Failed(Arc<str>),
}

impl NoAnswer {
    /// A failure for this reason.
    pub fn failed(reason: impl Into<Arc<str>>) -> Self {
        NoAnswer::Failed(reason.into())
    }
}

/// A place where the answer will be; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Promise(Arc<(Mutex<Option<EncodeResult>>, Condvar)>);

impl Promise {
    /// One that is given already: there is no answer, for this reason.
    pub fn without_answer(reason: NoAnswer) -> Self {
        let promise = Promise::default();
        promise.give(Err(reason));
        promise
    }

    /// Waits for the answer until `gone` says that nobody wants it.
    pub fn wait_unless(&self, gone: &dyn Fn() -> bool) -> EncodeResult {
        let (answer, given) = &*self.0;
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            let waited = given.wait_timeout(answer, POLL);
            let timeout;
            (answer, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() && answer.is_none() && gone() {
                return Err(NoAnswer::failed("nobody waits for it any more"));
            }
        }
    }

    /// Whether the answer is there, waiting for it until `until`.
    pub fn is_given_by(&self, until: Instant) -> bool {
        let (answer, given) = &*self.0;
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        while answer.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = given.wait_timeout(answer, left);
            answer = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether it is known that there is no answer.
    #[cfg(feature = "perceptual")]
    pub fn has_failed(&self) -> bool {
        let answer = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*answer, Some(Err(_)))
    }

    /// Waits for the answer.
    #[cfg(feature = "perceptual")]
    pub fn wait(&self) -> EncodeResult {
        self.wait_unless(&|| false)
    }

    /// Gives the answer; a second one is passed over.
    pub fn give(&self, new: EncodeResult) {
        let (answer, given) = &*self.0;
        answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(new);
        given.notify_all();
    }
}
