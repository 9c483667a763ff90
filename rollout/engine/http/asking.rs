//! How a completion is asked of a server: what the threads of a pool share, when a completion is asked for again, and what
//! becomes of one that new weights met on its way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::answer::{Ask, ServerAnswer, ServerEnd};
use super::current::Current;
use super::dialect::{Dialect, Refusal, Writer};
use super::endpoint::RolloutServer;
use super::job::{Event, Job, Loss};
use super::probe::{answers_gap, within};
use crate::engine::PartialCompletions;

/// How often a completion is asked for whose answers are unusable, or of weights that they must not be of.
const UNUSABLE: u32 = 3;
/// How often who waits looks around.
pub(super) const GLANCE: Duration = Duration::from_millis(50);

/// What the pool is opened with.
pub(super) struct ServerPoolOptions {
    /// The servers.
    pub(super) servers: Vec<RolloutServer>,
    /// How they are spoken to.
    pub(super) dialect: Box<dyn Dialect>,
    /// Requests a server at a time.
    pub(super) in_flight: usize,
    /// From a completion's first request until it is given up.
    pub(super) deadline: Duration,
    /// Ids that a completion may hold: those below.
    pub(super) vocabulary: i64,
    /// The largest gap of a probe.
    pub(super) gap: f64,
    /// The greedy probe.
    pub(super) probe: Ask,
    /// What becomes of completions that are under way when new weights come, where some may be.
    pub(super) partial: Option<PartialCompletions>,
}

/// Completions that wait, and those that are under way.
#[derive(Default)]
pub(super) struct JobQueue {
    pub(super) jobs: VecDeque<Job>,
    /// What is under way, by its id: the server's number.
    pub(super) under_way: BTreeMap<String, usize>,
    /// Counts cancellations: what was asked for before is thrown away.
    pub(super) epoch: u64,
    pub(super) closed: bool,
    pub(super) retried: u64,
    /// Whether nothing more is sent until the servers have their new weights.
    pub(super) held: bool,
    /// Updates of the weights that have begun.
    pub(super) updates: u64,
    /// The number of the newest weights that a server may have.
    pub(super) newest: u64,
    /// Completions that an update dropped.
    pub(super) dropped: u64,
}

/// What the threads of a pool share.
pub(super) struct SharedPool {
    pub(super) options: ServerPoolOptions,
    pub(super) queue: Mutex<JobQueue>,
    pub(super) changed: Condvar,
    pub(super) current: RwLock<Current>,
    /// Taken by who sends a server its weights again.
    pub(super) healing: Vec<Mutex<()>>,
}

/// The value of a mutex, whoever panicked with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedPool {
    pub(super) fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn patiently<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(200));
        loop {
            let refusal = match attempt() {
                Ok(done) => return Ok(done),
                Err(refusal) => refusal,
            };
            if !refusal.may_pass || begun.elapsed() + pause > self.options.deadline {
                return Err(refusal);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// One completion of a server as it stands, for probes.
    pub(super) fn ask(&self, server: &RolloutServer, ask: &Ask) -> Result<ServerAnswer, Refusal> {
        let (path, body) = self.options.dialect.request(ask, &self.current().writer);
        let answer = self.options.dialect.read(&server.sample(path, &body)?);
        let answer = answer.map_err(|what| Refusal::of(server, what))?;
        let fits = answer.check(ask, self.options.vocabulary);
        fits.and_then(|()| answer.check_prompt(ask))
            .map_err(|what| Refusal::of(server, what))?;
        Ok(answer)
    }

    /// A thread's life.
    pub(super) fn work(&self, index: usize, sender: &Sender<(u64, Event)>) {
        while let Some((epoch, job)) = self.take(index) {
            let id = job.ask.id.clone();
            let event = self.attempt(index, job);
            let mut queue = lock(&self.queue);
            queue.under_way.remove(&id);
            if epoch != queue.epoch {
                continue;
            }
            match event {
                Attempt::Ended(event) => {
                    // Whoever closed the other end wants nothing any more.
                    let _ = sender.send((epoch, *event));
                }
                Attempt::Again(job) => {
                    queue.retried += 1;
                    queue.jobs.push_front(*job);
                    drop(queue);
                    self.changed.notify_all();
                }
                Attempt::Dropped(job) => {
                    queue.dropped += 1;
                    queue.jobs.push_front(*job);
                    drop(queue);
                    self.changed.notify_all();
                }
            }
        }
    }

    /// The next completion for a server; `None` when the pool is closed.
    fn take(&self, index: usize) -> Option<(u64, Job)> {
        let server = &self.options.servers[index];
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            if !queue.jobs.is_empty()
                && !queue.held
                && server.admit()
                && let Some(mut job) = queue.jobs.pop_front()
            {
                job.sent.get_or_insert_with(Instant::now);
                job.updates = queue.updates;
                queue.under_way.insert(job.ask.id.clone(), index);
                return Some((queue.epoch, job));
            }
            let waited = self.changed.wait_timeout(queue, GLANCE);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asks a server for a completion.
    fn attempt(&self, index: usize, mut job: Job) -> Attempt {
        let server = &self.options.servers[index];
        if server.is_stale()
            && let Err(refusal) = self.heal(index)
        {
            server.failed(&refusal.message);
            let nobody = self.options.servers.iter().all(RolloutServer::is_stale);
            return match nobody && !refusal.may_pass {
                true => Attempt::lost(Loss::Gone(refusal.message)),
                false => self.again(job),
            };
        }
        let current = self.current();
        job.version = current.number();
        let (path, body) = self.options.dialect.request(&job.ask, &current.writer);
        let answer = match server.sample(path, &body) {
            Ok(answer) => answer,
            Err(error) if error.may_pass() => {
                self.tell_failure(server, &error.message);
                return self.again(job);
            }
            // A server that was restarted does not know the adapter.
            Err(error)
                if matches!(current.writer, Writer::Adapter(..)) && error.status == Some(404) =>
            {
                return self.unusable(server, job, &error.message, true);
            }
            Err(error) => return Attempt::lost(Loss::Wrong(error.message)),
        };
        let answer = match self.options.dialect.read(&answer) {
            Ok(answer) => answer,
            Err(what) => return self.unusable(server, job, &what, false),
        };
        if let Err(what) = answer.check(&job.ask, self.options.vocabulary) {
            return self.unusable(server, job, &what, false);
        }
        let (updates, newest) = {
            let queue = lock(&self.queue);
            (queue.updates, queue.newest)
        };
        let drops = self.options.partial == Some(PartialCompletions::Abort);
        if answer.end == ServerEnd::Abort && drops && updates > job.updates {
            server.is_well();
            // Its time begins anew.
            job.sent = None;
            return Attempt::Dropped(Box::new(job));
        }
        if answer.end == ServerEnd::Abort {
            self.tell_failure(
                server,
                &format!("{}: it aborted a completion", server.address),
            );
            return self.again(job);
        }
        if let Err(what) = answer.check_prompt(&job.ask) {
            let id = &job.ask.id;
            return Attempt::lost(Loss::Wrong(format!(
                "{}: completion {id}: {what}",
                server.address
            )));
        }
        if let Err(what) = current.wrote(&answer, newest) {
            return self.unusable(server, job, &what, true);
        }
        server.is_well();
        Attempt::Ended(Box::new(Event::Answered(Box::new(job), answer)))
    }

    /// Asks again, unless the completion's deadline has passed.
    fn again(&self, job: Job) -> Attempt {
        let since = job.sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        if since < self.options.deadline {
            return Attempt::Again(Box::new(job));
        }
        let troubles = self
            .options
            .servers
            .iter()
            .filter_map(RolloutServer::trouble);
        Attempt::lost(Loss::Gone(format!(
            "no server gave a completion within {:.0} s (rollout.servers.deadline_s): {}",
            self.options.deadline.as_secs_f64(),
            troubles.collect::<Vec<_>>().join("; ")
        )))
    }

    /// Asks again a few times for what came back useless; `stale`: as the server's weights are others.
    fn unusable(&self, server: &RolloutServer, mut job: Job, what: &str, stale: bool) -> Attempt {
        // Whoever waits for another rank to mend it waits until the deadline.
        let waits = stale && !self.current().heals;
        job.unusable += u32::from(!waits);
        let said = format!("{}: its answer cannot be used: {what}", server.address);
        self.tell_failure(server, &said);
        if stale {
            server.set_stale(true);
        }
        match job.unusable >= UNUSABLE {
            true => Attempt::lost(Loss::Wrong(format!("{said} (asked {UNUSABLE} times)"))),
            false => self.again(job),
        }
    }

    fn tell_failure(&self, server: &RolloutServer, said: &str) {
        if server.failed(said) == 1 {
            tracing::warn!(target: "svgrl::rollout", "{said}: asking again");
        }
    }

    /// Gives a server the weights that it has lost.
    fn heal(&self, index: usize) -> Result<(), Refusal> {
        let server = &self.options.servers[index];
        let _alone = lock(&self.healing[index]);
        if !server.is_stale() {
            return Ok(());
        }
        if lock(&self.queue).held {
            let what = format!("{}: new weights are on their way to it", server.address);
            return Err(Refusal {
                message: what,
                may_pass: true,
            });
        }
        let current = self.current();
        if !current.heals {
            server.set_stale(false);
            return Err(Refusal {
                message: format!(
                    "{}: it has other weights than rank 0 has sent, and waits for rank 0 to send them again",
                    server.address
                ),
                may_pass: true,
            });
        }
        let Some(weights) = &current.weights else {
            return Err(Refusal::of(
                server,
                "it was restarted or given other weights, and these lie in no folder to give it again (rollout.servers.update)",
            ));
        };
        let partial = self.options.partial;
        self.options.dialect.update(server, weights, partial)?;
        if let Some(known) = &current.probe {
            let gap = answers_gap(&self.ask(server, &self.options.probe)?, known);
            if !within(gap, self.options.gap) {
                return Err(Refusal::of(
                    server,
                    format!("its weights are others: a probe differs by {gap:.3}"),
                ));
            }
        }
        server.set_stale(false);
        tracing::warn!(target: "svgrl::rollout", "{}: had other weights and was given those of {} again", server.address, weights.version);
        Ok(())
    }
}

/// How an attempt ended.
enum Attempt {
    Ended(Box<Event>),
    Again(Box<Job>),
    /// New weights dropped it.
    Dropped(Box<Job>),
}

impl Attempt {
    fn lost(loss: Loss) -> Self {
        Self::Ended(Box::new(Event::Lost(loss)))
    }
}
