//! Completions under way at several servers: one queue, as many requests a server as the config allows, and what fails
//! at one server is asked of another until its deadline. An answer is handed on once.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::answer::{Ask, ServerAnswer};
use super::asking::{GLANCE, ServerPoolOptions, SharedPool, lock};
use super::current::Current;
use super::dialect::{Dialect, Refusal};
use super::endpoint::RolloutServer;
use super::job::{Event, Job, Loss};
use crate::engine::PartialCompletions;

/// Servers with completions under way.
pub(super) struct ServerPool {
    shared: Arc<SharedPool>,
    events: Mutex<Receiver<(u64, Event)>>,
    threads: Vec<JoinHandle<()>>,
}

impl ServerPool {
    /// Starts a thread for each request that may be under way.
    ///
    /// # Errors
    /// No more threads.
    pub(super) fn start(options: ServerPoolOptions, current: Current) -> std::io::Result<Self> {
        let (sender, events) = channel();
        let healing = options.servers.iter().map(|_| Mutex::new(())).collect();
        let shared = Arc::new(SharedPool {
            options,
            queue: Mutex::default(),
            changed: Condvar::new(),
            current: RwLock::new(current),
            healing,
        });
        let mut pool = Self {
            shared,
            events: Mutex::new(events),
            threads: Vec::new(),
        };
        for index in 0..pool.shared.options.servers.len() {
            for _ in 0..pool.shared.options.in_flight {
                let (shared, sender) = (pool.shared.clone(), sender.clone());
                let thread = std::thread::Builder::new().name("rollout server".into());
                pool.threads.push(
                    thread
                        .stack_size(512 << 10)
                        .spawn(move || shared.work(index, &sender))?,
                );
            }
        }
        Ok(pool)
    }

    /// The servers.
    pub(super) fn servers(&self) -> &[RolloutServer] {
        &self.shared.options.servers
    }

    /// How they are spoken to.
    pub(super) fn dialect(&self) -> &dyn Dialect {
        self.shared.options.dialect.as_ref()
    }

    /// What they sample with.
    pub(super) fn current(&self) -> Current {
        self.shared.current()
    }

    /// The greedy probe.
    pub(super) fn probe(&self) -> &Ask {
        &self.shared.options.probe
    }

    /// They sample with something else from now on.
    pub(super) fn set_current(&self, current: Current) {
        *self
            .shared
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// Queues a completion.
    pub(super) fn push(&self, job: Job) {
        lock(&self.shared.queue).jobs.push_back(job);
        self.shared.changed.notify_one();
    }

    /// What comes next; `None` when nothing came for a moment.
    pub(super) fn next(&self) -> Option<Event> {
        self.next_within(GLANCE)
    }

    /// What has come; `None` when nothing has.
    pub(super) fn ready(&self) -> Option<Event> {
        self.next_within(Duration::ZERO)
    }

    fn next_within(&self, moment: Duration) -> Option<Event> {
        loop {
            let event = lock(&self.events).recv_timeout(moment);
            match event {
                Ok((epoch, event)) if epoch == lock(&self.shared.queue).epoch => {
                    return Some(event);
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    let gone = "the threads that ask the servers have ended".to_owned();
                    return Some(Event::Lost(Loss::Gone(gone)));
                }
            }
        }
    }

    /// Sends nothing more, as servers are about to be given the weights of `number`.
    pub(super) fn hold(&self, number: u64) {
        let mut queue = lock(&self.shared.queue);
        queue.held = true;
        queue.updates += 1;
        queue.newest = queue.newest.max(number);
    }

    /// Goes on sending.
    pub(super) fn release(&self) {
        lock(&self.shared.queue).held = false;
        self.shared.changed.notify_all();
    }

    /// Has the servers end what is under way; it is asked for again.
    pub(super) fn recall(&self) {
        let under_way = lock(&self.shared.queue).under_way.clone();
        self.abort(under_way);
    }

    /// What becomes of completions that are under way when new weights come, where some may be.
    pub(super) fn partial(&self) -> Option<PartialCompletions> {
        self.shared.options.partial
    }

    /// Has server `index` do something to its weights, while nobody sends it others.
    pub(super) fn alone_with<T>(&self, index: usize, what: impl FnOnce(&RolloutServer) -> T) -> T {
        let _alone = lock(&self.shared.healing[index]);
        what(&self.servers()[index])
    }

    /// Throws away what is queued or under way, and tells the servers.
    pub(super) fn cancel(&self) {
        let under_way = {
            let mut queue = lock(&self.shared.queue);
            queue.epoch += 1;
            queue.jobs.clear();
            std::mem::take(&mut queue.under_way)
        };
        self.abort(under_way);
    }

    /// Tells the servers to end completions, by their ids.
    fn abort(&self, under_way: BTreeMap<String, usize>) {
        let mut by_server: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (id, server) in under_way {
            by_server.entry(server).or_default().push(id);
        }
        for (server, ids) in by_server {
            let server = &self.shared.options.servers[server];
            if server.trouble().is_none() {
                self.dialect().abort(server, &ids);
            }
        }
    }

    /// How often a completion had to be asked for again: because a server failed, and because new weights dropped it.
    pub(super) fn asked_again(&self) -> (u64, u64) {
        let queue = lock(&self.shared.queue);
        (queue.retried, queue.dropped)
    }

    /// One completion of one server, tried until the deadline.
    ///
    /// # Errors
    /// What it refused last.
    pub(super) fn ask_patiently(
        &self,
        server: &RolloutServer,
        ask: &Ask,
    ) -> Result<ServerAnswer, Refusal> {
        self.shared.patiently(|| self.shared.ask(server, ask))
    }

    /// Tries until it works, cannot work, or the deadline has passed.
    ///
    /// # Errors
    /// The last refusal.
    pub(super) fn patiently<T>(
        &self,
        attempt: impl FnMut() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.shared.patiently(attempt)
    }
}

impl Drop for ServerPool {
    fn drop(&mut self) {
        self.cancel();
        lock(&self.shared.queue).closed = true;
        self.shared.changed.notify_all();
        // Threads whose request is still under way end with it; nobody waits for them.
        self.threads.retain(|thread| !thread.is_finished());
    }
}
