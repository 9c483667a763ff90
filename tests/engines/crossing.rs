//! Completions of a stand-in that new weights meet on their way: they halt in the middle until the update is over, and go on
//! with the new weights or are dropped. Who waits for what is told by requests, never by time.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Which completions halt, by their draws.
#[derive(Debug, Clone)]
pub struct Halting {
    /// These are held back until all of `halts` have been asked for.
    pub held_back: Range<u64>,
    /// These halt in the middle, once each, until the next update is over.
    pub halts: Range<u64>,
    /// How many of them there are.
    pub count: usize,
}

/// What happened at the stand-in, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A completion of this draw was asked for.
    Asked(u64),
    /// Something else was told.
    Told(String),
}

#[derive(Default)]
struct Progress {
    halting: Option<Halting>,
    /// Names of completions that have been asked for and halt.
    asked: BTreeSet<String>,
    /// Updates that are over, and those that drop what is under way.
    updates: u64,
    aborts: u64,
    happened: Vec<Happening>,
}

/// The meeting of completions and updates.
#[derive(Default)]
pub struct Crossing {
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// How the middle of a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Middle {
    GoesOn,
    Dropped,
}

/// The draw of a request of the trainer's, from its name; probes have none.
pub fn draw_of(name: &str) -> Option<u64> {
    let mut parts = name.rsplit('-');
    parts.next()?.parse::<u64>().ok()?;
    parts.next()?.parse().ok()
}

impl Crossing {
    pub fn begin(&self, halting: Halting) {
        self.progress.lock().unwrap().halting = Some(halting);
    }

    pub fn happened(&self) -> Vec<Happening> {
        self.progress.lock().unwrap().happened.clone()
    }

    /// A completion is asked for; it waits where it is held back. Whether it halts in its middle.
    pub fn asked(&self, name: &str) -> bool {
        let Some(draw) = draw_of(name) else {
            return false;
        };
        let mut progress = self.progress.lock().unwrap();
        progress.happened.push(Happening::Asked(draw));
        let Some(halting) = progress.halting.clone() else {
            return false;
        };
        if halting.halts.contains(&draw) {
            let first = progress.asked.insert(name.to_owned());
            self.changed.notify_all();
            return first;
        }
        if halting.held_back.contains(&draw) {
            let waits = |progress: &mut Progress| progress.asked.len() < halting.count;
            let waited = self.changed.wait_timeout_while(progress, PATIENCE, waits);
            assert!(
                !waited.unwrap().1.timed_out(),
                "nothing was sampled ahead of {name}"
            );
        }
        false
    }

    /// Waits in the middle of a completion.
    pub fn middle(&self) -> Middle {
        let progress = self.progress.lock().unwrap();
        let (updates, aborts) = (progress.updates, progress.aborts);
        let waits = |now: &mut Progress| (now.updates, now.aborts) == (updates, aborts);
        let waited = self.changed.wait_timeout_while(progress, PATIENCE, waits);
        let (progress, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "no weights came");
        match progress.aborts > aborts {
            true => Middle::Dropped,
            false => Middle::GoesOn,
        }
    }

    /// Something was told, before it is done.
    pub fn told(&self, path: &str, body: &Value) {
        let mut progress = self.progress.lock().unwrap();
        progress.happened.push(Happening::Told(path.to_owned()));
        let aborts = path == "/pause?mode=abort" || body["mode"] == "abort";
        progress.aborts += u64::from(aborts);
        self.changed.notify_all();
    }

    /// Something that was told is done.
    pub fn done(&self, path: &str) {
        let over = ["/resume", "/continue_generation"].contains(&path);
        self.progress.lock().unwrap().updates += u64::from(over);
        self.changed.notify_all();
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
