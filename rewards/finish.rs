//! The end of judgements that wait for encoders or judges: each ends when all of it has come, whoever
//! waits before it. A judge that keeps silent holds up nobody else.

use crate::pending::Pending;
use crate::round::LOOK;
use crate::score::Task;
use crate::scorer::{ScoreJob, Scored, unknown_task};
use crossbeam_channel::Receiver;
use indexmap::IndexMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A judgement that waits, and what is done with it then.
pub(crate) struct Unfinished {
    pub job: ScoreJob,
    pub pending: Box<Pending>,
    pub reply: Box<dyn FnOnce(Scored) + Send>,
    pub cancelled: Option<Arc<AtomicBool>>,
    /// When judges that have not answered count as failed; none where that is left to them.
    pub judges: Option<Instant>,
}

impl Unfinished {
    /// Waits for what is missing and answers, unless nobody wants the answer any more.
    pub fn end(self, tasks: &IndexMap<String, Task>, stopped: &AtomicBool) {
        let gone = || self.is_gone(stopped);
        let reward = match tasks.get(&self.job.task) {
            None => Some(unknown_task()),
            Some(task) => task.finish_unless(&self.pending, &gone, self.judges),
        };
        let Some(reward) = reward else {
            return;
        };
        (self.reply)(Scored {
            key: self.job.key,
            reward,
        });
    }

    fn is_gone(&self, stopped: &AtomicBool) -> bool {
        stopped.load(Ordering::Relaxed) || is_set(self.cancelled.as_deref())
    }

    fn is_ready_within(&self, most: Duration) -> bool {
        self.pending.is_ready_by(Instant::now() + most, self.judges)
    }
}

/// Ends what comes until there is nothing left to come.
pub(crate) fn finish(
    inbox: &Receiver<Unfinished>,
    tasks: &IndexMap<String, Task>,
    stopped: &AtomicBool,
) {
    let mut waiting: VecDeque<Unfinished> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match inbox.recv() {
                Ok(one) => waiting.push_back(one),
                Err(_) => return,
            }
        }
        waiting.extend(inbox.try_iter());
        // What came first is mostly there first, and waiting for it costs nothing.
        if waiting[0].is_ready_within(LOOK) {
            if let Some(first) = waiting.pop_front() {
                first.end(tasks, stopped);
            }
            continue;
        }
        for one in std::mem::take(&mut waiting) {
            if one.is_ready_within(Duration::ZERO) {
                one.end(tasks, stopped);
            } else if !one.is_gone(stopped) {
                waiting.push_back(one);
            }
        }
    }
}

pub(crate) fn is_set(flag: Option<&AtomicBool>) -> bool {
    flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
}
