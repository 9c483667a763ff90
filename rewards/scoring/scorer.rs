//! The scorer: threads that judge completions while others are still being written, here or by
//! asking a service elsewhere. Results come back as they are ready, or in order for a batch.

use crate::config::RewardsConfig;
use crate::encode::{EncoderCount, EncoderNeed, EncoderSet, Encoders};
use crate::error::RewardError;
use crate::failures::{Failures, PartFailures};
#[cfg(feature = "service")]
use crate::invalid::Invalid;
use crate::invalid::ReferenceFault;
use crate::judge::JudgeCount;
use crate::poll::Stopped;
use crate::reference::Reference;
use crate::remote::Remote;
use crate::request::ScoreRequest;
use crate::rules::RewardConfig;
use crate::scoring::completer::{Completer, Unfinished};
use crate::scoring::submitted::Submitted;
use crate::scoring::task::{SharedTools, Task};
use crate::scoring::task_scoring::TaskScoring;
use crate::scoring::unscored_window::UnscoredWindow;
use crate::scoring::workers::{NextQueue, ScoringThread};
use crate::types::{Reward, ScoreJob, Scored, TokenCounter};
use crossbeam_channel::{Receiver, Sender, unbounded};
use indexmap::IndexMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use svg::{Renderer, WaitBudget, WorkerProgram};

/// Judges completions on its own threads; dropping it waits for the one each thread is at.
pub struct Scorer {
    tasks: Arc<IndexMap<String, Task>>,
    remote: Option<Arc<Remote>>,
    encoders: Option<Arc<Encoders>>,
    requests: Option<Sender<ScoreRequest>>,
    submitted: Submitted,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    unscored: Unscorables,
}

/// What could not be scored.
struct Unscorables {
    failures: Arc<Failures>,
    window: UnscoredWindow,
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

    /// As [`Self::new`], with another worker program than the installed one.
    pub fn with_worker(
        config: &RewardsConfig,
        tasks: IndexMap<String, TaskScoring>,
        worker: &WorkerProgram,
    ) -> Result<Scorer, RewardError> {
        Scorer::open(config, tasks, None, &EncoderSet::default(), worker)
    }

    /// As [`Self::new`], with encoders for the rewards that need them; those that no task uses are not
    /// loaded, and none is where a service scores. Fails as well on an encoder that cannot be read.
    pub fn with_encoders(
        config: &RewardsConfig,
        tasks: IndexMap<String, TaskScoring>,
        tokens: Option<TokenCounter>,
        encoders: &EncoderSet,
    ) -> Result<Scorer, RewardError> {
        Scorer::open(config, tasks, tokens, encoders, &WorkerProgram::Installed)
    }

    fn open(
        config: &RewardsConfig,
        tasks: IndexMap<String, TaskScoring>,
        tokens: Option<TokenCounter>,
        encoders: &EncoderSet,
        worker: &WorkerProgram,
    ) -> Result<Scorer, RewardError> {
        config
            .validate()
            .map_err(|e| RewardError::Config(format!("rewards.{e}")))?;
        if !config.services().is_empty() {
            return Scorer::remote(config, &tasks);
        }
        let deadline = Duration::from_millis(config.deadline_ms);
        let renderer = Arc::new(Renderer::new(worker, deadline)?);
        for (name, scoring) in &tasks {
            scoring
                .validate()
                .map_err(|e| RewardError::Config(format!("tasks.{name}.{e}")))?;
        }
        let needs: Vec<EncoderNeed> = tasks.iter().flat_map(encoder_needs).collect();
        let encoders = Arc::new(Encoders::open(encoders, &needs)?);
        let shared = SharedTools {
            renderer,
            tokens,
            encoders: encoders.clone(),
            reference_cache: config.reference_cache,
            failures: Arc::default(),
        };
        let tasks: IndexMap<String, Task> = tasks
            .into_iter()
            .map(|(name, scoring)| Ok((name.clone(), task(&name, scoring, &shared)?)))
            .collect::<Result<_, RewardError>>()?;
        let count = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let mut scorer = Scorer::without_threads(tasks, config, shared.failures);
        scorer.encoders = Some(encoders);
        scorer.start(count)?;
        Ok(scorer)
    }

    /// One that scores nothing yet.
    fn without_threads(
        tasks: IndexMap<String, Task>,
        config: &RewardsConfig,
        failures: Arc<Failures>,
    ) -> Scorer {
        Scorer {
            tasks: Arc::new(tasks),
            remote: None,
            encoders: None,
            requests: None,
            submitted: Submitted::default(),
            stopped: Arc::default(),
            threads: Vec::new(),
            unscored: Unscorables {
                failures,
                window: UnscoredWindow::new(config),
            },
        }
    }

    /// Starts `count` threads of each kind; they stand behind those that feed them, and so are joined after them.
    fn start(&mut self, count: usize) -> Result<(), RewardError> {
        let encoders = self.encoders.as_ref();
        let waits = encoders.is_some_and(|encoders| !encoders.is_empty())
            || self.tasks.values().any(Task::waits_for_others);
        // Judgements that wait for encoders or judges wait in one thread, not in those that render.
        let (completer, unfinished) = unbounded::<Unfinished>();
        let completer = waits.then_some(completer);
        // What only a worker process may draw goes on to as many threads of its own, and what is not drawn there
        // in a moment to as many again: each keeps only its like waiting.
        let (sender, requests) = unbounded();
        let (isolated, to_isolate) = unbounded();
        let (slow, slowly) = unbounded();
        self.requests = Some(sender);
        for (name, patience, requests, slower) in [
            ("", WaitBudget::Here, requests, Some(isolated)),
            ("isolated-", WaitBudget::Moment, to_isolate, Some(slow)),
            ("slow-", WaitBudget::Deadline, slowly, None),
        ] {
            let thread = ScoringThread {
                tasks: self.tasks.clone(),
                stopped: self.stopped.clone(),
                next: NextQueue {
                    patience,
                    completer: completer.clone(),
                    slower,
                },
            };
            for i in 0..count {
                let (thread, requests) = (thread.clone(), requests.clone());
                let name = format!("score-{name}{i}");
                let thread = svg::spawn_large_stack(&name, move || thread.run(&requests))?;
                self.threads.push(thread);
            }
        }
        drop(completer);
        if waits {
            let (tasks, stopped) = (self.tasks.clone(), self.stopped.clone());
            let complete = move || {
                let (tasks, stopped) = (&*tasks, &*stopped);
                Completer { tasks, stopped }.run(&unfinished);
            };
            let thread = std::thread::Builder::new().name("score-finish".into());
            self.threads.push(thread.spawn(complete)?);
        }
        Ok(())
    }

    /// A scorer whose threads call services elsewhere.
    fn remote(
        config: &RewardsConfig,
        tasks: &IndexMap<String, TaskScoring>,
    ) -> Result<Scorer, RewardError> {
        for (name, scoring) in tasks {
            scoring
                .validate()
                .map_err(|e| RewardError::Config(format!("tasks.{name}.{e}")))?;
        }
        let digests = tasks
            .iter()
            .map(|(name, scoring)| (name.clone(), scoring.digest()));
        let remote = Arc::new(Remote::connect(config, digests.collect())?);
        let mut scorer = Scorer::without_threads(IndexMap::new(), config, remote.failures());
        scorer.remote = Some(remote.clone());
        let (sender, requests) = unbounded();
        scorer.requests = Some(sender);
        for i in 0..config.remote.connections * config.services().len() {
            let (remote, stopped) = (remote.clone(), scorer.stopped.clone());
            let requests: Receiver<ScoreRequest> = requests.clone();
            let call = move || remote.serve(&requests, &stopped);
            let thread = svg::spawn_large_stack(&format!("score-{i}"), call)?;
            scorer.threads.push(thread);
        }
        Ok(scorer)
    }

    /// Hands a completion over; returns at once.
    pub fn submit(&self, job: ScoreJob) {
        let (reply, cancelled) = self.submitted.enter();
        self.send(job, reply, Some(cancelled));
    }

    /// The next finished judgement of those submitted, waiting while any is outstanding; none when
    /// there is nothing to wait for.
    pub fn next(&self) -> Option<Scored> {
        self.submitted.next_unless(&|| false).ok().flatten()
    }

    /// [`Self::next`] for a caller that may give up: `stop` is asked many times a second. Those who gave up
    /// [abandon](Self::abandon) the rest.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn next_unless(&self, stop: &dyn Fn() -> bool) -> Result<Option<Scored>, Stopped> {
        self.submitted.next_unless(stop)
    }

    /// A finished judgement of those submitted, if there is one by now.
    pub fn ready(&self) -> Option<Scored> {
        self.submitted.ready()
    }

    /// Gives up all judgements that were submitted and have not come.
    pub fn abandon(&self) {
        self.submitted.abandon();
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
    pub fn check_reference(&self, task: &str, reference: &Reference) -> Result<(), ReferenceFault> {
        if let Some(remote) = &self.remote {
            return remote.check(task, reference);
        }
        match self.tasks.get(task) {
            Some(task) => task.check_reference(reference),
            None => Err(ReferenceFault::NoTask(task.to_owned())),
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
    ) -> Result<Result<(), ReferenceFault>, Stopped> {
        match &self.remote {
            Some(remote) => remote.check_unless(task, reference, stop),
            None => Ok(self.check_reference(task, reference)),
        }
    }

    /// The part of [`check_reference`](Self::check_reference) that renders nothing.
    #[cfg(feature = "service")]
    pub(crate) fn check_fields(
        &self,
        task: &str,
        reference: &Reference,
    ) -> Result<(), ReferenceFault> {
        match self.tasks.get(task) {
            Some(task) => task.check_fields(reference),
            None => Err(ReferenceFault::NoTask(task.to_owned())),
        }
    }

    /// Milliseconds that one drawing may take here.
    #[cfg(feature = "service")]
    pub(crate) fn drawing_ms(&self) -> Option<u64> {
        self.tasks.values().next()?.drawing_ms()
    }

    /// What a completion gets that was not judged.
    #[cfg(feature = "service")]
    pub(crate) fn unjudged(&self, task: &str, reason: Invalid, step: u64) -> Reward {
        match self.tasks.get(task) {
            Some(task) => task.failed(reason, step),
            None => Reward::none(Invalid::UnknownTask),
        }
    }

    /// The number for those who need one where a completion could not be scored.
    #[cfg(feature = "service")]
    pub(crate) fn failure_total(&self, task: &str, step: u64) -> f64 {
        let task = self.tasks.get(task);
        task.map_or(0.0, |task| task.failure_total(step))
    }

    /// Whether judgements so far were made at all.
    ///
    /// # Errors
    /// A scoring service that was lost: what came back since is made up and must not be used.
    pub fn check(&self) -> Result<(), RewardError> {
        match self.remote.as_ref().and_then(|remote| remote.lost()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The rewards that could not be had for some completion so far.
    pub fn failures(&self) -> Vec<PartFailures> {
        self.unscored.failures.read()
    }

    /// Takes in how many of a training step's completions, of all ranks, could not be scored.
    ///
    /// # Errors
    /// [`RewardError::Unscored`] when those of the last steps are too many for a run to go on, as
    /// `rewards.unscored_steps` and `rewards.unscored_share` say.
    pub fn check_step(&self, unscored: usize, all: usize) -> Result<(), RewardError> {
        let Some((unscored, all)) = self.unscored.window.step(unscored, all) else {
            return Ok(());
        };
        let failed = self.failures().into_iter();
        let failed =
            failed.map(|one| format!("{} ({} times; first: {})", one.part, one.count, one.first));
        let failed: Vec<String> = failed.collect();
        let failed = match failed.is_empty() {
            true => "on other ranks".to_owned(),
            false => failed.join("; "),
        };
        Err(RewardError::Unscored(format!(
            "{unscored} of the last {all} completions could not be scored: {failed}. Nothing can be learnt from them: mend what failed and start the run again, which continues from its last checkpoint (rewards.unscored_steps and rewards.unscored_share say when a run stops, rubric.unscored: 0 counts such a reward as 0)"
        )))
    }

    /// Says that nothing will be scored for a while: encoders that may be offloaded leave their device, and
    /// have left it when this returns.
    pub fn offload(&self) {
        if let Some(encoders) = &self.encoders {
            encoders.offload();
        }
    }

    /// Says that completions will come soon: offloaded encoders begin to come back.
    pub fn reload(&self) {
        if let Some(encoders) = &self.encoders {
            encoders.reload();
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
        self.request(ScoreRequest {
            job,
            // A caller that went away does not want its answer.
            reply: Box::new(move |scored| drop(reply.send(scored))),
            cancelled,
            judges: None,
        });
    }

    /// Takes a request in.
    pub(crate) fn request(&self, request: ScoreRequest) {
        if let Some(requests) = &self.requests {
            // The threads hold the receiver as long as the scorer lives.
            let _ = requests.send(request);
        }
    }
}

impl Drop for Scorer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.requests = None;
        // Threads that call a service may wait long for an answer that nobody wants, and hold nothing.
        if self.remote.is_some() {
            self.threads.clear();
        }
        // An answer that a scoring thread hands over may hold the scorer last: it cannot wait for itself.
        let own = std::thread::current().id();
        let others = self.threads.drain(..);
        for thread in others.filter(|thread| thread.thread().id() != own) {
            let _ = thread.join();
        }
    }
}

/// The encoders that a task's rewards and metrics need.
fn encoder_needs((task, scoring): (&String, &TaskScoring)) -> Vec<EncoderNeed> {
    let need = |(key, rule): (String, &RewardConfig)| {
        let (encoder, what) = rule.reward().needs().encoder?;
        Some(EncoderNeed {
            key: format!("tasks.{task}.{key}.encoder"),
            encoder: encoder.to_owned(),
            what,
        })
    };
    scoring.rules().filter_map(need).collect()
}

/// A task, ready to score.
///
/// # Errors
/// Lengths in tokens without a counter; see [`Task::new`].
fn task(name: &str, scoring: TaskScoring, shared: &SharedTools) -> Result<Task, RewardError> {
    let mut rules = scoring.rules();
    let counts_tokens = rules.find(|(_, rule)| rule.reward().needs().tokens);
    if let (Some((key, _)), None) = (counts_tokens, &shared.tokens) {
        return Err(RewardError::Config(format!(
            "tasks.{name}.{key}.unit: tokens need a tokenizer (use chars or non_space)"
        )));
    }
    drop(rules);
    Task::new(scoring, shared).map_err(|error| match error {
        RewardError::Config(said) => RewardError::Config(format!("tasks.{name}.{said}")),
        other => other,
    })
}
