//! The end of judgements that wait for encoders or judges: each ends when all of it has come, whoever
//! waits before it. A judge that keeps silent holds up nobody else.

use crate::invalid::Invalid;
use crate::poll::POLL;
use crate::request::ScoreRequest;
use crate::rules::Waiter;
use crate::scoring::pending::PendingScore;
use crate::scoring::task::Task;
use crate::types::Reward;
use crossbeam_channel::Receiver;
use indexmap::IndexMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A judgement that waits, and whose it is.
pub(crate) struct Unfinished {
    pub request: ScoreRequest,
    pub pending: Box<PendingScore>,
}

/// Ends judgements until it is stopped.
pub(crate) struct Completer<'a> {
    pub tasks: &'a IndexMap<String, Task>,
    pub stopped: &'a AtomicBool,
}

impl Completer<'_> {
    /// Ends what comes until there is nothing left to come.
    pub fn run(&self, inbox: &Receiver<Unfinished>) {
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
            if waiting[0].is_ready_within(POLL) {
                if let Some(first) = waiting.pop_front() {
                    self.end(first);
                }
                continue;
            }
            for one in std::mem::take(&mut waiting) {
                if one.is_ready_within(Duration::ZERO) {
                    self.end(one);
                } else if !self.is_gone(&one.request) {
                    waiting.push_back(one);
                }
            }
        }
    }

    /// Waits for what is missing and answers, unless nobody wants the answer any more.
    pub fn end(&self, Unfinished { request, pending }: Unfinished) {
        let reward = match self.tasks.get(&request.job.task) {
            None => Some(Reward::none(Invalid::UnknownTask)),
            Some(task) => {
                let waiter = Waiter {
                    gone: &|| self.is_gone(&request),
                    judges: request.judges,
                };
                task.finish(&pending, &waiter)
            }
        };
        if let Some(reward) = reward {
            request.answer(reward);
        }
    }

    fn is_gone(&self, request: &ScoreRequest) -> bool {
        self.stopped.load(Ordering::Relaxed) || !request.is_wanted()
    }
}

impl Unfinished {
    fn is_ready_within(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        self.pending.is_ready_by(until, self.request.judges)
    }
}
