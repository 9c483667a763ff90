//! The judgements that one caller waits for, until it has them all or gives them up.

use crate::scorer::Scored;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a caller that may give up is asked whether it does.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// The caller gave up waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// What was asked and is not answered yet.
#[derive(Default)]
pub(crate) struct Rounds(Mutex<Round>);

struct Round {
    results: (Sender<Scored>, Receiver<Scored>),
    outstanding: usize,
    /// Set when nobody waits for its judgements any more.
    cancelled: Arc<AtomicBool>,
}

impl Default for Round {
    fn default() -> Self {
        Round {
            results: unbounded(),
            outstanding: 0,
            cancelled: Arc::default(),
        }
    }
}

impl Rounds {
    /// Counts one more, and says where its judgement goes and what tells that nobody wants it.
    pub fn enter(&self) -> (Sender<Scored>, Arc<AtomicBool>) {
        let mut round = self.lock();
        round.outstanding += 1;
        (round.results.0.clone(), round.cancelled.clone())
    }

    /// The next judgement; none when there is nothing to wait for.
    ///
    /// # Errors
    /// [`Stopped`] when `stop` said so.
    pub fn next_unless(&self, stop: &dyn Fn() -> bool) -> Result<Option<Scored>, Stopped> {
        let results = {
            let mut round = self.lock();
            let Some(left) = round.outstanding.checked_sub(1) else {
                return Ok(None);
            };
            round.outstanding = left;
            round.results.1.clone()
        };
        loop {
            match results.recv_timeout(LOOK) {
                Ok(scored) => return Ok(Some(scored)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if stop() => return Err(Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Gives up all that is outstanding.
    pub fn abandon(&self) {
        let old = std::mem::take(&mut *self.lock());
        old.cancelled.store(true, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
