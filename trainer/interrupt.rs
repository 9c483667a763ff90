//! SIGTERM, SIGINT and SIGHUP: acknowledged at once; the step in flight gets a grace to end, then it is dropped, and
//! the state is written. A second SIGINT stops at once. Before the first step there is nothing to write: the process
//! just ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use tracing::Level;

use crate::TrainError;

/// When the first signal came, if one has.
#[derive(Debug, Clone)]
pub struct Interrupt {
    /// Milliseconds since `start`, plus one; 0 before a signal.
    at: Arc<AtomicU64>,
    /// Its number.
    signal: Arc<AtomicI32>,
    /// Whether there is a state that a signal has to leave on disk.
    begun: Arc<AtomicBool>,
    /// The newest whole checkpoint.
    newest: Arc<Mutex<Option<PathBuf>>>,
    /// What the run does, and whether it is a step.
    doing: Arc<Mutex<(String, bool)>>,
    /// Steps that this process has done, and how many of them the newest checkpoint has.
    done: Arc<AtomicU64>,
    kept: Arc<AtomicU64>,
    start: Instant,
    grace: Duration,
}

impl Interrupt {
    /// Never interrupts.
    pub fn never() -> Self {
        Self {
            at: Arc::default(),
            signal: Arc::default(),
            begun: Arc::default(),
            newest: Arc::default(),
            doing: Arc::default(),
            done: Arc::default(),
            kept: Arc::default(),
            start: Instant::now(),
            grace: Duration::MAX,
        }
    }

    /// Listens for SIGTERM, SIGINT and SIGHUP in this process.
    ///
    /// # Errors
    /// The system refusing the handlers.
    pub fn listen(grace: Duration) -> Result<Self, TrainError> {
        static LISTENING: OnceLock<()> = OnceLock::new();
        let interrupt = Self {
            grace,
            ..Self::never()
        };
        let refused =
            |error: std::io::Error| TrainError::Other(format!("signal handlers: {error}"));
        let mut signals =
            signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(refused)?;
        let heard = interrupt.clone();
        if LISTENING.set(()).is_ok() {
            std::thread::Builder::new()
                .name("signals".into())
                .spawn(move || signals.forever().for_each(|signal| heard.hear(signal)))
                .map_err(refused)?;
        }
        Ok(interrupt)
    }

    /// What a signal does, in words and in deeds.
    fn hear(&self, signal: i32) {
        let now = self.start.elapsed().as_millis() as u64 + 1;
        self.signal
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
            .ok();
        let first = self
            .at
            .compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
        let (name, status) = (name(signal), 128 + signal);
        // Without destructors: libtorch's would run under the main thread's feet.
        if !self.begun.load(Ordering::SeqCst) {
            self.say(Level::WARN, &format!("{name}: no step has begun, there is nothing to write; ending with status {status}"));
            signal_hook::low_level::exit(status);
        }
        let left = self.left();
        if first.is_ok() {
            let (doing, lost) = self.at_stake();
            self.say(Level::WARN, &format!(
                "{name}: finishing {doing} within {} s (grace_s), or dropping it; then the state is written and the run ends with status {status}. Ctrl-C again to stop now and lose {lost}; {left}",
                self.grace.as_secs()
            ));
        } else if signal == SIGINT {
            self.say(
                Level::ERROR,
                &format!(
                    "{name} again: stopping now, {} lost; {left}",
                    self.at_stake().1
                ),
            );
            signal_hook::low_level::exit(status);
        } else {
            self.say(
                Level::WARN,
                &format!("{name} again: the state is about to be written; {left}"),
            );
        }
    }

    /// Says a line where people look: before the run's outputs are open, on standard error.
    fn say(&self, level: Level, line: &str) {
        if !tracing::dispatcher::has_been_set() {
            let _ = writeln!(std::io::stderr(), "{line}");
        } else if level == Level::ERROR {
            tracing::error!("{line}");
        } else {
            tracing::warn!("{line}");
        }
    }

    /// What stays if the process ended now.
    fn left(&self) -> String {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            Some(path) => format!(
                "the last whole checkpoint is {}, the same command continues from it",
                path.display()
            ),
            None => "there is no checkpoint yet, the same command starts over".into(),
        }
    }

    /// What the run does now, and how many steps are lost if it stops at once.
    fn at_stake(&self) -> (String, String) {
        let doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, is_step) = &*doing;
        let kept = self.kept.load(Ordering::SeqCst);
        let done = self.done.load(Ordering::SeqCst);
        let lost = done.saturating_sub(kept) + u64::from(*is_step);
        let lost = match lost {
            0 => "no step".to_owned(),
            1 => "1 step".to_owned(),
            more => format!("{more} steps"),
        };
        match what.is_empty() {
            true => ("what is under way".to_owned(), lost),
            false => (what.clone(), lost),
        }
    }

    /// The run begins `what`, which a signal's line names: a step or something else.
    pub fn doing(&self, what: &str, is_step: bool) {
        let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        *doing = (what.to_owned(), is_step);
    }

    /// A step is done.
    pub fn stepped(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// How many steps this process has done.
    pub fn steps_done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// A checkpoint lies whole at `path`, with so many of the steps that this process has done.
    pub fn wrote(&self, path: &Path, steps: u64) {
        self.kept.store(steps, Ordering::SeqCst);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Some(path.to_owned());
    }

    /// From now on a signal waits for the state to be written.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    /// Whether a signal has come.
    pub fn asked(&self) -> bool {
        self.at.load(Ordering::SeqCst) != 0
    }

    /// The signal that has come; SIGTERM where it came to another rank alone.
    pub fn signal(&self) -> i32 {
        match self.signal.load(Ordering::SeqCst) {
            0 => SIGTERM,
            signal => signal,
        }
    }

    /// Whether the grace for the step in flight is over.
    pub fn expired(&self) -> bool {
        match self.at.load(Ordering::SeqCst) {
            0 => false,
            at => self.start.elapsed() > Duration::from_millis(at).saturating_add(self.grace),
        }
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        SIGHUP => "SIGHUP",
        _ => "SIGTERM",
    }
}
