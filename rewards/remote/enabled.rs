//! Scoring by a service: waiting jobs are gathered into requests, several requests are under way at
//! a time. A service that stays away ends scoring: further jobs are answered at once and the scorer
//! reports the loss, so that no made-up number is trained on.

use crate::cache::{Cache, key};
use crate::config::RewardsConfig;
use crate::error::RewardError;
use crate::failures::Failures;
use crate::http::{CallError, Caller};
use crate::invalid::{Invalid, ReferenceFault};
use crate::poll::{POLL, Stopped};
use crate::reference::{ImageSource, Reference};
use crate::request::ScoreRequest;
use crate::types::{Reward, ScoreJob};
use crate::wire::{ScoreRow, ScoredRow};

use super::services::Services;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a completion may take beside its drawing, and an answer on its way, milliseconds.
const SLACK_MS: u64 = 1000;

/// The services at the other end.
pub(crate) struct Remote {
    services: Services,
    /// What is sent beside the rows of each request: the tasks' digests, and how long the answer may take.
    terms: Value,
    /// Completions in one request: as the config has it, or fewer where the service takes no more.
    batch: AtomicUsize,
    retries: u32,
    /// Completions that the service has judged.
    judged: AtomicUsize,
    /// What the service could not score, and calls that failed.
    failures: Arc<Failures>,
    /// Why the service is given up, once it is.
    lost: OnceLock<String>,
    /// Answers about references, by task and content.
    checked: Cache<Result<(), ReferenceFault>>,
}

impl Remote {
    /// Reaches the service and compares the digests of its tasks with those of `tasks`.
    ///
    /// # Errors
    /// A token file that cannot be read, a service that does not answer, a task that it lacks or
    /// scores in another way, less time for a completion than drawing it may take.
    pub fn connect(
        config: &RewardsConfig,
        tasks: IndexMap<String, String>,
    ) -> Result<Remote, RewardError> {
        let how = &config.remote;
        let read = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let place = path.display();
                RewardError::Config(format!("rewards.remote.token_file: {place}: {error}"))
            });
            text.map(|text| text.trim().to_owned())
        };
        let token = how.token_file.as_ref().map(read).transpose()?;
        let addresses = config.services();
        let open = |timeout_ms: u64| {
            let timeout = Duration::from_millis(timeout_ms);
            let caller =
                |address: &str, retries| Caller::new(address, token.clone(), timeout, retries);
            Services::new(&addresses, how.retries, caller)
        };
        let told = open(how.timeout_ms).ask_each("/health");
        let mut needed = 0;
        let mut silent = Vec::new();
        for (endpoint, health) in addresses.iter().zip(told) {
            match health {
                Ok(health) => {
                    needed = check_health(config, (endpoint, &health), &tasks)?.max(needed)
                }
                Err(error) if error.may_pass() => silent.push(error.message),
                Err(error) => {
                    return Err(RewardError::Service(format!(
                        "rewards.endpoint: {}",
                        error.message
                    )));
                }
            }
        }
        if silent.len() == addresses.len() {
            return Err(RewardError::Service(format!(
                "rewards.endpoint: {}",
                silent.join("; ")
            )));
        }
        for message in silent {
            tracing::warn!(target: "svgrl::rewards", "{message}: the other services do its work until it answers");
        }
        // What a single completion may take is always waited for.
        let patience = how.timeout_ms.max(needed.saturating_add(SLACK_MS));
        Ok(Remote {
            services: open(patience),
            terms: json!({"tasks": tasks, "deadline_ms": patience - SLACK_MS}),
            batch: AtomicUsize::new(how.batch),
            retries: how.retries,
            judged: AtomicUsize::new(0),
            failures: Arc::default(),
            lost: OnceLock::new(),
            checked: Cache::new(config.reference_cache),
        })
    }

    /// Where what the service could not score is told.
    pub fn failures(&self) -> Arc<Failures> {
        self.failures.clone()
    }

    /// Takes jobs until the channel closes.
    pub fn serve(&self, inbox: &Receiver<ScoreRequest>, stopped: &AtomicBool) {
        while let Ok(first) = inbox.recv() {
            let mut batch = vec![first];
            let most = self.batch.load(Ordering::Relaxed);
            batch.extend(inbox.try_iter().take(most - 1));
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            batch.retain(ScoreRequest::is_wanted);
            if !batch.is_empty() {
                self.answer(batch, self.retries, stopped);
            }
        }
    }

    /// Whether a reference can serve a task, as the service sees it.
    pub fn check(&self, task: &str, reference: &Reference) -> Result<(), ReferenceFault> {
        let fault = ReferenceFault::Elsewhere;
        let sent = portable(reference).map_err(fault)?;
        let content = serde_json::to_vec(&sent).map_err(|error| fault(error.to_string()))?;
        self.checked.get(key(&[task.as_bytes(), &content]), || {
            let body = self.body(vec![json!({"task": task, "reference": sent})]);
            let answer = self.services.call("/check", &body, &|| true);
            let answer = answer.map_err(|error| fault(self.give_up(error)))?;
            match answer["items"][0].as_str() {
                Some(problem) => Err(fault(problem.to_owned())),
                None => Ok(()),
            }
        })
    }

    /// [`Self::check`] for a caller that may give up; the call itself goes on until it fails.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn check_unless(
        self: &Arc<Self>,
        task: &str,
        reference: &Arc<Reference>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Result<(), ReferenceFault>, Stopped> {
        let (sender, answer) = bounded(1);
        let (remote, task, asked) = (self.clone(), task.to_owned(), reference.clone());
        let ask = move || drop(sender.send(remote.check(&task, &asked)));
        if let Err(error) = std::thread::Builder::new().spawn(ask) {
            return Ok(Err(ReferenceFault::Elsewhere(error.to_string())));
        }
        loop {
            match answer.recv_timeout(POLL) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => {
                    let said = "the service could not be asked".to_owned();
                    return Ok(Err(ReferenceFault::Elsewhere(said)));
                }
                Err(RecvTimeoutError::Timeout) if stop() => return Err(Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Why judgements are not to be trusted any more, if so.
    pub fn lost(&self) -> Option<RewardError> {
        self.lost.get().cloned().map(RewardError::Service)
    }

    fn body(&self, rows: Vec<Value>) -> Value {
        let mut body = self.terms.clone();
        body["items"] = rows.into();
        body
    }

    fn give_up(&self, error: CallError) -> String {
        let way_out = match error.status {
            Some(401) => " (rewards.remote.token_file)".to_owned(),
            Some(status) if !(200..300).contains(&status) && status < 500 && status != 429 => {
                String::new()
            }
            // It was not the service that failed.
            _ if error.sent == 0 => String::new(),
            _ if error.sent == 1 => {
                " (sent once; rewards.remote.retries says how often)".to_owned()
            }
            _ if self.services.count() > 1 => format!(
                " (sent {} times to {} services; rewards.remote.retries says how often)",
                error.sent,
                self.services.count()
            ),
            _ => format!(
                " (sent {} times; rewards.remote.retries says how often)",
                error.sent
            ),
        };
        let message = format!("rewards.endpoint: {}{way_out}", error.message);
        self.lost.get_or_init(|| message).clone()
    }

    /// Has `requests` judged, in as many requests as that takes.
    fn answer(&self, mut requests: Vec<ScoreRequest>, mut tries: u32, stopped: &AtomicBool) {
        while !requests.is_empty() {
            let judged = self.judged.load(Ordering::SeqCst);
            let rows = match self.post(&requests, tries == 0, stopped) {
                Ok(rows) => rows,
                Err(Unanswered::TooMuch) => {
                    self.batch.fetch_min(requests.len() / 2, Ordering::Relaxed);
                    return self.answer_halves(requests, tries, stopped);
                }
                Err(Unanswered::Busy) => continue,
                Err(Unanswered::Lost) => break,
            };
            let (asked, mut late) = (requests.len(), Vec::new());
            let mut why = None;
            for (request, row) in requests.into_iter().zip(rows) {
                if let Some(Invalid::Deadline(_)) = row.reason {
                    why = row.reason;
                    late.push(request);
                } else {
                    let why = "the service at rewards.endpoint could not have this reward (its own log says why)";
                    for part in &row.unscored {
                        self.failures.note(part, why, None);
                    }
                    request.answer(row.into_reward());
                }
            }
            self.judged.fetch_add(asked - late.len(), Ordering::SeqCst);
            requests = late;
            // As long as completions of this run are judged, the others wait for their turn.
            if requests.is_empty() || self.judged.load(Ordering::SeqCst) > judged {
                continue;
            }
            if tries == 0 {
                self.lost.get_or_init(|| {
                    let tries = self.retries + 1;
                    let why = why.map_or_else(String::new, |why| why.to_string());
                    format!("rewards.endpoint: the service did not judge in time however often it was asked ({tries} times in a row with nothing judged; the last answer: {why}): it is held up by others' completions, or by slow encoders or judges (raise rewards.service.deadline_ms there, or rewards.remote.timeout_ms and retries here)")
                });
                break;
            }
            tries -= 1;
            // Encoders may take longer for all of them than the service waits.
            if requests.len() > 1 {
                return self.answer_halves(requests, tries, stopped);
            }
        }
        if requests.is_empty() {
            return;
        }
        let lost = self.lost.get().map_or("", String::as_str);
        for request in requests {
            request.answer(Reward::none(Invalid::ServiceLost(lost.to_owned())));
        }
    }

    fn answer_halves(&self, mut requests: Vec<ScoreRequest>, tries: u32, stopped: &AtomicBool) {
        let rest = requests.split_off(requests.len() / 2);
        self.answer(requests, tries, stopped);
        self.answer(rest, tries, stopped);
    }

    /// One answered row for each request.
    fn post(
        &self,
        requests: &[ScoreRequest],
        last_try: bool,
        stopped: &AtomicBool,
    ) -> Result<Vec<ScoredRow>, Unanswered> {
        let go_on = || {
            self.lost.get().is_none()
                && !stopped.load(Ordering::Relaxed)
                && requests.iter().any(ScoreRequest::is_wanted)
        };
        if !go_on() {
            return Err(Unanswered::Lost);
        }
        let lose = |message: String| {
            self.give_up(CallError::unsent(message));
            Unanswered::Lost
        };
        let rows: Result<Vec<Value>, String> =
            requests.iter().map(|request| row(&request.job)).collect();
        let mut body = self.body(rows.map_err(lose)?);
        body["last_try"] = last_try.into();
        let judged = self.judged.load(Ordering::SeqCst);
        let answer = self.services.call("/score_batch", &body, &go_on);
        let mut answer = answer.map_err(|error| match error.status {
            Some(413) if requests.len() > 1 => Unanswered::TooMuch,
            Some(429) if self.judged.load(Ordering::SeqCst) > judged => Unanswered::Busy,
            _ => {
                self.give_up(error);
                Unanswered::Lost
            }
        })?;
        let rows: Vec<ScoredRow> = serde_json::from_value(answer["items"].take())
            .map_err(|error| lose(format!("the service's answer: {error}")))?;
        match rows.len() == requests.len() {
            true => Ok(rows),
            false => Err(lose("the service answered another number of items".into())),
        }
    }
}

/// Whether a service scores these tasks alike, and gives a completion time enough: how much it needs, milliseconds.
fn check_health(
    config: &RewardsConfig,
    (endpoint, health): (&str, &Value),
    tasks: &IndexMap<String, String>,
) -> Result<u64, RewardError> {
    for (name, own) in tasks {
        let problem = match health["tasks"][name].as_str() {
            Some(digest) if digest == own => continue,
            Some(_) => "is scored in another way there",
            None => "is unknown there",
        };
        return Err(RewardError::Config(format!(
            "rewards.endpoint: {endpoint}: the task {name:?} {problem} (start the service with this config)"
        )));
    }
    let drawing = config
        .deadline_ms
        .max(health["drawing_ms"].as_u64().unwrap_or(0));
    let needed = drawing.saturating_add(SLACK_MS);
    match health["deadline_ms"].as_u64().filter(|&ms| ms < needed) {
        Some(theirs) => Err(RewardError::Config(format!(
            "rewards.endpoint: {endpoint}: the service gives a completion {theirs} ms (rewards.service.deadline_ms there), but drawing one may take {drawing} ms (rewards.deadline_ms), and one that does would end the run (start the service with rewards.service.deadline_ms >= {needed}, or lower rewards.deadline_ms here and there)"
        ))),
        None => Ok(needed),
    }
}

/// Why a request has no rows.
enum Unanswered {
    /// The service takes fewer completions, or bytes, in one request.
    TooMuch,
    /// Its queue is full, among others of completions of this run that it judges.
    Busy,
    /// Nothing is to be had from it any more.
    Lost,
}

fn row(job: &ScoreJob) -> Result<Value, String> {
    let mut row = ScoreRow::of(job);
    row.reference = portable(&row.reference)?;
    serde_json::to_value(row).map_err(|error| error.to_string())
}

/// The same reference with its picture's bytes in place of a path.
fn portable(reference: &Reference) -> Result<Reference, String> {
    let mut reference = reference.clone();
    if let Some(image) = &mut reference.image {
        let bytes = image
            .read()
            .map_err(|error| format!("reference.image: {error}"))?;
        *image = ImageSource::Png(bytes);
    }
    Ok(reference)
}
