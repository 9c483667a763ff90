//! The judgements that one caller waits for, until it has them all or gives them up.

use crate::poll::{POLL, Stopped};
use crate::types::Scored;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was asked and is not answered yet.
#[derive(Default)]
pub(crate) struct Submitted(Mutex<Outstanding>);

struct Outstanding {
    results: (Sender<Scored>, Receiver<Scored>),
    count: usize,
    /// Set when nobody waits for its judgements any more.
    cancelled: Arc<AtomicBool>,
}

impl Default for Outstanding {
    fn default() -> Self {
        Outstanding {
            results: unbounded(),
            count: 0,
            cancelled: Arc::default(),
        }
    }
}

impl Submitted {
    /// Counts one more, and says where its judgement goes and what tells that nobody wants it.
    pub fn enter(&self) -> (Sender<Scored>, Arc<AtomicBool>) {
        let mut submitted = self.lock();
        submitted.count += 1;
        (submitted.results.0.clone(), submitted.cancelled.clone())
    }

    /// The next judgement; none when there is nothing to wait for.
    ///
    /// # Errors
    /// [`Stopped`] when `stop` said so.
    pub fn next_unless(&self, stop: &dyn Fn() -> bool) -> Result<Option<Scored>, Stopped> {
        let results = {
            let mut submitted = self.lock();
            let Some(left) = submitted.count.checked_sub(1) else {
                return Ok(None);
            };
            submitted.count = left;
            submitted.results.1.clone()
        };
        loop {
            match results.recv_timeout(POLL) {
                Ok(scored) => return Ok(Some(scored)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if stop() => return Err(Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// A judgement that has come by now.
    pub fn ready(&self) -> Option<Scored> {
        let mut submitted = self.lock();
        let scored = submitted.results.1.try_recv().ok()?;
        submitted.count = submitted.count.saturating_sub(1);
        Some(scored)
    }

    /// Gives up all that is outstanding.
    pub fn abandon(&self) {
        let old = std::mem::take(&mut *self.lock());
        old.cancelled.store(true, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Outstanding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
