//! The threads that judge: those that draw here, and those behind them for what only a worker process may draw.
//!
//! What a worker process is not done with in a moment goes on to as many threads again, so that slow drawings keep
//! only their like waiting. Judgements that wait for encoders or judges wait with the completer.
//!
//! They are this crate's own and not a pool's: a document has a deadline, a thread that overruns it is left behind, and
//! one that waits for a worker process must keep no other row from its turn.

use crate::invalid::Invalid;
use crate::request::ScoreRequest;
use crate::scoring::completer::{Completer, Unfinished};
use crate::scoring::pending::Outcome;
use crate::scoring::task::Task;
use crate::types::Reward;
use crossbeam_channel::{Receiver, Sender};
use indexmap::IndexMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use svg::WaitBudget;

/// What a thread knows besides its requests.
#[derive(Clone)]
pub(crate) struct ScoringThread {
    pub tasks: Arc<IndexMap<String, Task>>,
    pub stopped: Arc<AtomicBool>,
    pub next: NextQueue,
}

/// What a thread takes upon itself, and where it hands on what others do.
#[derive(Clone)]
pub(crate) struct NextQueue {
    pub patience: WaitBudget,
    /// Judgements that wait for encoders or judges; none where nothing does.
    pub completer: Option<Sender<Unfinished>>,
    /// Completions that take more than the patience; none where it is whole.
    pub slower: Option<Sender<ScoreRequest>>,
}

impl ScoringThread {
    /// Judges what comes until there is nothing left to come, or it is stopped.
    pub fn run(&self, requests: &Receiver<ScoreRequest>) {
        for request in requests {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            if !request.is_wanted() {
                continue;
            }
            match (self.judge(&request), &self.next.slower) {
                (Some(Outcome::Done(reward)), _) => request.answer(reward),
                (Some(Outcome::Pending(pending)), _) => self.wait(Unfinished { request, pending }),
                // The threads hold the receiver as long as there are senders.
                (None, Some(slower)) => drop(slower.send(request)),
                (None, None) => {}
            }
        }
    }

    /// The judgement; none where drawing takes more than the patience.
    fn judge(&self, request: &ScoreRequest) -> Option<Outcome> {
        let job = &request.job;
        let Some(task) = self.tasks.get(&job.task) else {
            return Some(Outcome::Done(Reward::none(Invalid::UnknownTask)));
        };
        let score = || task.score(job, self.next.patience);
        catch_unwind(AssertUnwindSafe(score))
            .unwrap_or_else(|_| Some(Outcome::Done(task.failed(Invalid::Panic, job.step))))
    }

    fn wait(&self, unfinished: Unfinished) {
        match &self.next.completer {
            // The thread holds the receiver as long as there are senders.
            Some(completer) => drop(completer.send(unfinished)),
            None => {
                let (tasks, stopped) = (&*self.tasks, &*self.stopped);
                Completer { tasks, stopped }.end(unfinished);
            }
        }
    }
}
