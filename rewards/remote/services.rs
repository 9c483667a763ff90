//! Several scoring services that do the same: work goes round, one that fails rests, and what it did not answer is asked of
//! another.

use crate::http::{CallError, Caller, pause};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often who waits asks whether it should go on.
const GLANCE: Duration = Duration::from_millis(50);

/// The services.
pub(super) struct Services {
    all: Vec<ScoringService>,
    /// Whose turn it is.
    turn: AtomicUsize,
    retries: u32,
}

struct ScoringService {
    /// With `retries` of its own where it is alone, which then decides on pauses.
    caller: Caller,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    /// Failures since the last answer.
    failures: u32,
    until: Option<Instant>,
}

impl ScoringService {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services {
    /// The services at `addresses`, not none; `caller` makes what calls an address with so many retries.
    pub(super) fn new(
        addresses: &[&str],
        retries: u32,
        caller: impl Fn(&str, u32) -> Caller,
    ) -> Self {
        let own = if addresses.len() > 1 { 0 } else { retries };
        let service = |address: &&str| ScoringService {
            caller: caller(address, own),
            rest: Mutex::default(),
        };
        Self {
            all: addresses.iter().map(service).collect(),
            turn: AtomicUsize::new(0),
            retries,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Calls a service until one answers or patience ends; `go_on` is asked before each further try.
    ///
    /// # Errors
    /// What the last try met.
    pub(super) fn call(
        &self,
        path: &str,
        body: &Value,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Value, CallError> {
        if let [only] = self.all.as_slice() {
            return only.caller.call(path, Some(body), go_on);
        }
        let mut sent = 0;
        loop {
            let Some(service) = self.next(go_on) else {
                let message = "the services were given up while all of them rested".to_owned();
                return Err(CallError::unsent(message));
            };
            let error = match self.ask(service, path, Some(body)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            sent += 1;
            let most = (self.retries + 1).saturating_mul(self.all.len() as u32);
            if !error.may_pass() || sent >= most || !go_on() {
                return Err(CallError { sent, ..error });
            }
        }
    }

    /// Asks every service once, with `patience` for all while none has answered: each one's answer.
    pub(super) fn ask_each(&self, path: &str) -> Vec<Result<Value, CallError>> {
        if let [only] = self.all.as_slice() {
            return vec![only.caller.call(path, None, &|| true)];
        }
        let mut tried = 0;
        loop {
            let told: Vec<_> = self
                .all
                .iter()
                .map(|service| self.ask(service, path, None))
                .collect();
            if told.iter().any(Result::is_ok) || tried >= self.retries {
                return told;
            }
            std::thread::sleep(pause(tried, None));
            tried += 1;
        }
    }

    fn ask(
        &self,
        service: &ScoringService,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        let told = service.caller.call(path, body, &|| false);
        let mut rest = service.rest();
        match &told {
            Err(error) if error.may_pass() => {
                if rest.failures == 0 {
                    let message = &error.message;
                    tracing::warn!(target: "svgrl::rewards", "{message}: another service is asked");
                }
                rest.until = Some(Instant::now() + pause(rest.failures, error.asked));
                rest.failures += 1;
            }
            _ => *rest = Rest::default(),
        }
        told
    }

    /// The next service that does not rest; none when `go_on` says so before there is one.
    fn next(&self, go_on: &dyn Fn() -> bool) -> Option<&ScoringService> {
        loop {
            let from = self.turn.fetch_add(1, Ordering::Relaxed);
            let mut order = (0..self.all.len()).map(|at| &self.all[(from + at) % self.all.len()]);
            let now = Instant::now();
            let awake = order.find(|service| service.rest().until.is_none_or(|until| until <= now));
            if awake.is_some() {
                return awake;
            }
            if !go_on() {
                return None;
            }
            std::thread::sleep(GLANCE);
        }
    }
}
