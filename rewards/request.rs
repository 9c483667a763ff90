//! A job on its way through the scorer's threads, or to a service elsewhere.

use crate::types::{Reward, ScoreJob, Scored};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A job with what is done with its judgement; dropped unanswered when it was cancelled.
pub(crate) struct ScoreRequest {
    pub job: ScoreJob,
    pub reply: Box<dyn FnOnce(Scored) + Send>,
    /// Set when nobody waits for the judgement any more.
    pub cancelled: Option<Arc<AtomicBool>>,
    /// When judges that have not answered count as failed; none where that is left to them.
    pub judges: Option<Instant>,
}

impl ScoreRequest {
    /// Whether somebody waits for the judgement.
    pub fn is_wanted(&self) -> bool {
        let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        !self.cancelled.as_ref().is_some_and(is_set)
    }

    /// Gives the judgement.
    pub fn answer(self, reward: Reward) {
        let key = self.job.key;
        (self.reply)(Scored { key, reward });
    }
}
