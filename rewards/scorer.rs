//! The scorer: threads that judge completions while others are still being written, here or by
//! asking a service elsewhere. Results come back as they are ready, or in order for a batch.

use crate::config::{RewardsConfig, TaskScoring};
use crate::encode::{EncoderCount, EncoderSet, Encoders};
use crate::error::RewardError;
use crate::finish::{Unfinished, finish, is_set};
use crate::judge::JudgeCount;
use crate::length::Unit;
use crate::pending::Judged;
use crate::reference::{Candidate, Reference};
use crate::remote::Remote;
use crate::round::{Rounds, Stopped};
use crate::score::{Reward, Task};
use crossbeam_channel::{Receiver, Sender, unbounded};
use indexmap::IndexMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use svg::Patience;

/// What a scoring thread does until its orders end or it is stopped.
type Work = dyn Fn(&Receiver<Order>, &AtomicBool) + Send + Sync;

/// Counts the tokens of an SVG, for lengths in tokens.
pub type TokenCounter = Arc<dyn Fn(&str) -> usize + Send + Sync>;

/// One completion to judge.
#[derive(Clone, Debug)]
pub struct ScoreJob {
    /// The caller's name for it; comes back with the result.
    pub key: u64,
    pub task: String,
    /// Training step, for weight schedules.
    pub step: u64,
    /// Whether the task's metrics are wanted as well, whatever the task says.
    pub measure: bool,
    pub prompt: Arc<str>,
    pub reference: Arc<Reference>,
    pub candidate: Candidate,
}

/// A finished judgement.
#[derive(Clone, Debug)]
pub struct Scored {
    pub key: u64,
    pub reward: Reward,
}

/// A job with what is done with its judgement; dropped unanswered when it was cancelled.
pub(crate) struct Order {
    pub job: ScoreJob,
    pub reply: Box<dyn FnOnce(Scored) + Send>,
    /// Set when nobody waits for the judgement any more.
    pub cancelled: Option<Arc<AtomicBool>>,
    /// When judges that have not answered count as failed; none where that is left to them.
    pub judges: Option<Instant>,
}

/// Judges completions on its own threads; dropping it waits for the one each thread is at.
pub struct Scorer {
    tasks: Arc<IndexMap<String, Task>>,
    remote: Option<Arc<Remote>>,
    encoders: Option<Arc<Encoders>>,
    jobs: Option<Sender<Order>>,
    rounds: Rounds,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Scorer {
    /// Validates every section and starts the threads. With `rewards.endpoint` they call the service
    /// there. Fails on a bad value, on lengths in tokens without a counter, when the renderer's worker
    /// program is missing, and when the service is out of reach or scores these tasks differently.
    pub fn new(
        config: &RewardsConfig,
        tasks: IndexMap<String, TaskScoring>,
        tokens: Option<TokenCounter>,
    ) -> Result<Scorer, RewardError> {
        Scorer::with_encoders(config, tasks, tokens, &EncoderSet::default())
    }

    /// As [`Self::new`], with encoders for the rewards that need them; those that no task uses are not
    /// loaded, and none is where a service scores. Fails as well on an encoder that cannot be read.
    pub fn with_encoders(
        config: &RewardsConfig,
        tasks: IndexMap<String, TaskScoring>,
        tokens: Option<TokenCounter>,
        encoders: &EncoderSet,
    ) -> Result<Scorer, RewardError> {
        config
            .validate()
            .map_err(|e| RewardError::Config(format!("rewards.{e}")))?;
        if let Some(endpoint) = &config.endpoint {
            return Scorer::remote(config, endpoint, &tasks);
        }
        let deadline = Duration::from_millis(config.deadline_ms);
        let renderer = Arc::new(svg::Renderer::new(
            &svg::WorkerProgram::Installed,
            deadline,
        )?);
        for (name, scoring) in &tasks {
            scoring
                .validate()
                .map_err(|e| RewardError::Config(format!("tasks.{name}.{e}")))?;
        }
        let encoders = Arc::new(Encoders::open(encoders, &tasks)?);
        let mut ready = IndexMap::new();
        for (name, scoring) in tasks {
            let counts_tokens = scoring
                .rules()
                .find(|(_, rule)| rule.unit() == Some(Unit::Tokens));
            if let (Some((key, _)), None) = (counts_tokens, &tokens) {
                return Err(RewardError::Config(format!(
                    "tasks.{name}.{key}.unit: tokens need a tokenizer (use chars or non_space)"
                )));
            }
            let task = Task::new(
                scoring,
                renderer.clone(),
                tokens.clone(),
                encoders.clone(),
                config.reference_cache,
            );
            let task = task.map_err(|error| match error {
                RewardError::Config(said) => RewardError::Config(format!("tasks.{name}.{said}")),
                other => other,
            })?;
            ready.insert(name, task);
        }
        let count = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let tasks = Arc::new(ready);
        let judge = tasks.clone();
        // Judgements that wait for encoders or judges wait in one thread, not in those that render.
        let at_once = encoders.is_empty() && !tasks.values().any(Task::has_judges);
        let (waiting, unfinished) = unbounded::<Unfinished>();
        let waiting = (!at_once).then_some(waiting);
        // What only a worker process may draw goes on to as many threads of its own, and what is not drawn there
        // in a moment to as many again: each keeps only its like waiting.
        let (isolated, to_isolate) = unbounded::<Order>();
        let (slow, slowly) = unbounded::<Order>();
        let onward = Onward {
            patience: Patience::Here,
            waiting: waiting.clone(),
            slower: Some(isolated),
        };
        let work = move |jobs: &Receiver<Order>, stopped: &AtomicBool| {
            serve(&judge, (jobs, &onward), stopped);
        };
        let mut scorer = Scorer::start(tasks.clone(), None, count, Arc::new(work))?;
        scorer.encoders = Some(encoders);
        // Threads stand behind those that feed them, so that they are joined after them.
        for (name, patience, orders, slower) in [
            ("isolated", Patience::Moment, to_isolate, Some(slow)),
            ("slow", Patience::Deadline, slowly, None),
        ] {
            for i in 0..count {
                let (judge, orders, stopped) =
                    (tasks.clone(), orders.clone(), scorer.stopped.clone());
                let onward = Onward {
                    patience,
                    waiting: waiting.clone(),
                    slower: slower.clone(),
                };
                let work = move || serve(&judge, (&orders, &onward), &stopped);
                let thread = svg::spawn_large_stack(&format!("score-{name}-{i}"), work)?;
                scorer.threads.push(thread);
            }
        }
        drop(waiting);
        if !at_once {
            let stopped = scorer.stopped.clone();
            let finisher = std::thread::Builder::new().name("score-finish".into());
            let work = move || finish(&unfinished, &tasks, &stopped);
            scorer.threads.push(finisher.spawn(work)?);
        }
        Ok(scorer)
    }

    /// A scorer whose threads call the service at `endpoint`.
    fn remote(
        config: &RewardsConfig,
        endpoint: &str,
        tasks: &IndexMap<String, TaskScoring>,
    ) -> Result<Scorer, RewardError> {
        for (name, scoring) in tasks {
            scoring
                .validate()
                .map_err(|e| RewardError::Config(format!("tasks.{name}.{e}")))?;
        }
        let remote = Arc::new(Remote::connect(config, endpoint, tasks)?);
        let caller = remote.clone();
        let work = move |jobs: &Receiver<Order>, stopped: &AtomicBool| caller.serve(jobs, stopped);
        let (tasks, count) = (Arc::new(IndexMap::new()), config.remote.connections);
        Scorer::start(tasks, Some(remote), count, Arc::new(work))
    }

    fn start(
        tasks: Arc<IndexMap<String, Task>>,
        remote: Option<Arc<Remote>>,
        count: usize,
        work: Arc<Work>,
    ) -> Result<Scorer, RewardError> {
        let (sender, receiver) = unbounded::<Order>();
        let stopped = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for i in 0..count {
            let (work, receiver, stopped) = (work.clone(), receiver.clone(), stopped.clone());
            threads.push(svg::spawn_large_stack(&format!("score-{i}"), move || {
                work(&receiver, &stopped)
            })?);
        }
        Ok(Scorer {
            tasks,
            remote,
            encoders: None,
            jobs: Some(sender),
            rounds: Rounds::default(),
            stopped,
            threads,
        })
    }

    /// Hands a completion over; returns at once.
    pub fn submit(&self, job: ScoreJob) {
        let (reply, cancelled) = self.rounds.enter();
        self.send(job, reply, Some(cancelled));
    }

    /// The next finished judgement of those submitted, waiting while any is outstanding; none when
    /// there is nothing to wait for.
    pub fn next(&self) -> Option<Scored> {
        self.rounds.next_unless(&|| false).ok().flatten()
    }

    /// [`Self::next`] for a caller that may give up: `stop` is asked many times a second. Those who gave up
    /// [abandon](Self::abandon) the rest.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn next_unless(&self, stop: &dyn Fn() -> bool) -> Result<Option<Scored>, Stopped> {
        self.rounds.next_unless(stop)
    }

    /// Gives up all judgements that were submitted and have not come.
    pub fn abandon(&self) {
        self.rounds.abandon();
    }

    /// Judges a batch and answers in its order; independent of `submit` and `next`.
    pub fn score(&self, jobs: Vec<ScoreJob>) -> Vec<Reward> {
        let (sender, receiver) = unbounded();
        let count = jobs.len();
        for (i, job) in jobs.into_iter().enumerate() {
            self.send(
                ScoreJob {
                    key: i as u64,
                    ..job
                },
                sender.clone(),
                None,
            );
        }
        drop(sender);
        let mut scored: Vec<Scored> = receiver.iter().take(count).collect();
        scored.sort_by_key(|s| s.key);
        scored.into_iter().map(|s| s.reward).collect()
    }

    /// Whether a reference can serve a task: what its rewards need is there, and it renders. The
    /// answer names the key and the rule.
    pub fn check_reference(&self, task: &str, reference: &Reference) -> Result<(), String> {
        if let Some(remote) = &self.remote {
            return remote.check(task, reference);
        }
        match self.tasks.get(task) {
            Some(task) => task.check_reference(reference),
            None => Err(format!("task: no task is named {task:?}")),
        }
    }

    /// [`Self::check_reference`] for a caller that may give up while a service elsewhere does not answer.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn check_reference_unless(
        &self,
        task: &str,
        reference: &Arc<Reference>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Result<(), String>, Stopped> {
        match &self.remote {
            Some(remote) => remote.check_unless(task, reference, stop),
            None => Ok(self.check_reference(task, reference)),
        }
    }

    /// The part of [`check_reference`](Self::check_reference) that renders nothing.
    #[cfg(feature = "service")]
    pub(crate) fn check_fields(&self, task: &str, reference: &Reference) -> Result<(), String> {
        match self.tasks.get(task) {
            Some(task) => task.check_fields(reference),
            None => Err(format!("task: no task is named {task:?}")),
        }
    }

    /// Milliseconds that one drawing may take here.
    #[cfg(feature = "service")]
    pub(crate) fn drawing_ms(&self) -> Option<u64> {
        let deadline = self.tasks.values().next()?.renderer.deadline();
        u64::try_from(deadline.as_millis()).ok()
    }

    /// What a completion gets that was not judged.
    #[cfg(feature = "service")]
    pub(crate) fn unjudged(&self, task: &str, reason: String, step: u64) -> Reward {
        match self.tasks.get(task) {
            Some(task) => task.failed(reason, step),
            None => unknown_task(),
        }
    }

    /// Whether judgements so far were made at all.
    ///
    /// # Errors
    /// A scoring service that was lost, or an encoder that failed: what came back since is made up and
    /// must not be used.
    pub fn check(&self) -> Result<(), RewardError> {
        if let Some(fault) = self.encoders.as_ref().and_then(|encoders| encoders.fault()) {
            return Err(fault);
        }
        match self.remote.as_ref().and_then(|remote| remote.lost()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Says that nothing will be scored for a while: encoders that may be offloaded leave their device, and
    /// have left it when this returns.
    pub fn rest(&self) {
        if let Some(encoders) = &self.encoders {
            encoders.rest();
        }
    }

    /// Says that completions will come soon: offloaded encoders begin to come back.
    pub fn wake(&self) {
        if let Some(encoders) = &self.encoders {
            encoders.wake();
        }
    }

    /// What the judges of this process have done so far; none when no task has one.
    pub fn judge_count(&self) -> Option<JudgeCount> {
        let judged: Vec<&Task> = self.tasks.values().filter(|t| t.has_judges()).collect();
        let mut sum = JudgeCount::default();
        judged.iter().for_each(|task| sum += task.judge_count());
        (!judged.is_empty()).then_some(sum)
    }

    /// What went through each encoder of this process so far, by its name.
    pub fn encoder_counts(&self) -> Vec<(&str, EncoderCount)> {
        let encoders = self.encoders.as_ref();
        encoders.map_or_else(Vec::new, |encoders| encoders.counts())
    }

    fn send(&self, job: ScoreJob, reply: Sender<Scored>, cancelled: Option<Arc<AtomicBool>>) {
        self.order(Order {
            job,
            // A caller that went away does not want its answer.
            reply: Box::new(move |scored| drop(reply.send(scored))),
            cancelled,
            judges: None,
        });
    }

    pub(crate) fn order(&self, order: Order) {
        if let Some(jobs) = &self.jobs {
            // The threads hold the receiver as long as the scorer lives.
            let _ = jobs.send(order);
        }
    }
}

impl Drop for Scorer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.jobs = None;
        // Threads that call a service may wait long for an answer that nobody wants, and hold nothing.
        if self.remote.is_some() {
            self.threads.clear();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What a thread takes upon itself, and where it hands on what others do.
struct Onward {
    patience: Patience,
    /// Judgements that wait for encoders or judges; none where nothing does.
    waiting: Option<Sender<Unfinished>>,
    /// Completions that take more than the patience; none where it is whole.
    slower: Option<Sender<Order>>,
}

fn serve(
    tasks: &IndexMap<String, Task>,
    (orders, onward): (&Receiver<Order>, &Onward),
    stopped: &AtomicBool,
) {
    for order in orders {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let Order {
            job,
            reply,
            cancelled,
            judges,
        } = order;
        if is_set(cancelled.as_deref()) {
            continue;
        }
        let score = |task: &Task| task.score(&job, onward.patience);
        let judged = match tasks.get(&job.task) {
            None => Some(Judged::Done(unknown_task())),
            Some(task) => catch_unwind(AssertUnwindSafe(|| score(task))).unwrap_or_else(|_| {
                Some(Judged::Done(task.failed("panic: scoring".into(), job.step)))
            }),
        };
        let Some(judged) = judged else {
            if let Some(slower) = &onward.slower {
                // The threads hold the receiver as long as there are senders.
                drop(slower.send(Order {
                    job,
                    reply,
                    cancelled,
                    judges,
                }));
            }
            continue;
        };
        match (judged, &onward.waiting) {
            (Judged::Done(reward), _) => reply(Scored {
                key: job.key,
                reward,
            }),
            (Judged::Later(pending), waiting) => {
                let unfinished = Unfinished {
                    job,
                    pending,
                    reply,
                    cancelled,
                    judges,
                };
                match waiting {
                    // The thread holds the receiver as long as there are senders.
                    Some(waiting) => drop(waiting.send(unfinished)),
                    None => unfinished.end(tasks, stopped),
                }
            }
        }
    }
}

pub(crate) fn unknown_task() -> Reward {
    let reason = Some("unknown_task".into());
    Reward {
        total: 0.0,
        parts: IndexMap::new(),
        valid: false,
        reason,
        render_ms: 0.0,
        deadline_hit: false,
        metrics: IndexMap::new(),
    }
}
