//! SIGTERM and SIGINT: the step in flight gets a grace to end, then it is dropped; a second
//! SIGINT stops at once. Before the first step there is nothing to write: the process just ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::TrainError;

/// When the first signal came, if one has.
#[derive(Debug, Clone)]
pub struct Interrupt {
    /// Milliseconds since `start`, plus one; 0 before a signal.
    at: Arc<AtomicU64>,
    /// Whether there is a state that a signal has to leave on disk.
    begun: Arc<AtomicBool>,
    start: Instant,
    grace: Duration,
}

impl Interrupt {
    /// Never interrupts.
    pub fn never() -> Self {
        Self {
            at: Arc::default(),
            begun: Arc::default(),
            start: Instant::now(),
            grace: Duration::MAX,
        }
    }

    /// Listens for SIGTERM and SIGINT in this process.
    ///
    /// # Errors
    /// The system refusing the handlers.
    pub fn listen(grace: Duration) -> Result<Self, TrainError> {
        static LISTENING: OnceLock<()> = OnceLock::new();
        let interrupt = Self {
            grace,
            ..Self::never()
        };
        let mut signals = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
        ])
        .map_err(|error| TrainError::Other(format!("signal handlers: {error}")))?;
        let (at, start) = (interrupt.at.clone(), interrupt.start);
        let begun = interrupt.begun.clone();
        if LISTENING.set(()).is_ok() {
            std::thread::spawn(move || {
                for signal in signals.forever() {
                    let now = start.elapsed().as_millis() as u64 + 1;
                    let first = at
                        .compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst)
                        .is_ok();
                    // Without destructors: libtorch's would run under the main thread's feet.
                    if !begun.load(Ordering::SeqCst) {
                        signal_hook::low_level::exit(0);
                    }
                    if !first && signal == signal_hook::consts::SIGINT {
                        signal_hook::low_level::exit(130);
                    }
                }
            });
        }
        Ok(interrupt)
    }

    /// From now on a signal waits for the state to be written.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    /// Whether a signal has come.
    pub fn asked(&self) -> bool {
        self.at.load(Ordering::SeqCst) != 0
    }

    /// Whether the grace for the step in flight is over.
    pub fn expired(&self) -> bool {
        match self.at.load(Ordering::SeqCst) {
            0 => false,
            at => self.start.elapsed() > Duration::from_millis(at).saturating_add(self.grace),
        }
    }
}
