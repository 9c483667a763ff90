//! Signs of life: each rank writes one to the store every second, so that when
//! a collective fails the others can say who is missing.
//!
//! The backends' own errors cannot tell: they report a closed connection or a
//! deadline, often that of a neighbour which failed for the same reason.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Store, TorchError};

/// What a rank says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HeartbeatState {
    /// Signs of life given so far.
    pub beat: u64,
    /// Wall clock of the last one, milliseconds since 1970.
    pub at_ms: u64,
    /// Collectives begun.
    pub collectives: u64,
    /// Whether one of them has failed: the rank is about to stop, and others
    /// failed before it.
    pub failed: bool,
    /// What the rank is doing.
    pub phase: String,
    /// By how much it overslept at most between two signs of life: a process that was stopped did. Its own knowledge.
    pub overslept: Duration,
    /// When it will have slept enough; none while it is awake.
    wakes: Option<Instant>,
}

impl HeartbeatState {
    /// Notes a sleep that is over, or should be by now.
    fn look_at_the_clock(&mut self) {
        if let Some(wakes) = self.wakes {
            let over = Instant::now().saturating_duration_since(wakes);
            self.overslept = self.overslept.max(over);
        }
    }

    fn encode(&self) -> String {
        let Self {
            beat,
            at_ms,
            collectives,
            failed,
            phase,
            ..
        } = self;
        format!("{beat} {at_ms} {collectives} {} {phase}", u8::from(*failed))
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ' ');
        Some(Self {
            beat: parts.next()?.parse().ok()?,
            at_ms: parts.next()?.parse().ok()?,
            collectives: parts.next()?.parse().ok()?,
            failed: parts.next()? == "1",
            phase: parts.next()?.to_owned(),
            ..Self::default()
        })
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0))
}

fn key(rank: usize) -> String {
    format!("heartbeat/{rank}")
}

/// This rank's heartbeat; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    state: Arc<Mutex<HeartbeatState>>,
    stop: Sender<()>,
    stopped: Receiver<()>,
}

impl Heartbeat {
    /// Beats on a connection of its own, once at once and then `every`.
    pub(crate) fn start(store: Store, rank: usize, every: Duration) -> Result<Self, TorchError> {
        let state = Arc::new(Mutex::new(HeartbeatState {
            phase: "start".to_owned(),
            ..HeartbeatState::default()
        }));
        let (stop, stop_asked) = channel();
        let (done, stopped) = channel::<()>();
        let shared = Arc::clone(&state);
        let beat = move || {
            let _done_when_dropped = done;
            loop {
                let text = {
                    let mut state = lock(&shared);
                    state.beat += 1;
                    state.at_ms = now_ms();
                    state.look_at_the_clock();
                    state.wakes = None;
                    state.encode()
                };
                // A store that is gone shows at the next collective.
                let written = store.set(&key(rank), text.as_bytes());
                lock(&shared).wakes = Some(Instant::now() + every);
                let wake = stop_asked.recv_timeout(every);
                if written.is_err() || wake != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(beat)
            .map_err(|error| TorchError::argument("Heart::start", error.to_string()))?;
        Ok(Self {
            state,
            stop,
            stopped,
        })
    }

    /// Changes what the next beat says; returns the new state.
    pub(crate) fn update(&self, change: impl FnOnce(&mut HeartbeatState)) -> HeartbeatState {
        let mut state = lock(&self.state);
        state.look_at_the_clock();
        change(&mut state);
        state.clone()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // The thread may hang in a store that no longer answers: wait a little.
        let _ = self.stop.send(());
        let _ = self.stopped.recv_timeout(Duration::from_millis(500));
    }
}

fn lock(state: &Mutex<HeartbeatState>) -> MutexGuard<'_, HeartbeatState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches the other ranks over `store` for `watch` and says in a sentence who
/// is missing, or who lags behind `own` when nobody is.
pub(crate) fn who_is_missing(
    store: &Store,
    rank: usize,
    size: usize,
    own: &HeartbeatState,
    watch: Duration,
) -> Result<String, TorchError> {
    let others: Vec<usize> = (0..size).filter(|&other| other != rank).collect();
    let read = |other: usize| -> Result<Option<HeartbeatState>, TorchError> {
        if !store.is_set(&key(other))? {
            return Ok(None);
        }
        let value = store.get(&key(other))?;
        Ok(HeartbeatState::decode(&String::from_utf8_lossy(&value)))
    };
    let look = || {
        others
            .iter()
            .map(|&other| read(other))
            .collect::<Result<Vec<_>, _>>()
    };
    let before = look()?;
    std::thread::sleep(watch);
    let after = look()?;

    let mut silent = Vec::new();
    let mut behind = Vec::new();
    for ((other, before), after) in others.into_iter().zip(before).zip(after) {
        match (before, after) {
            (_, None) => silent.push(format!("rank {other} of {size} was never heard from")),
            // Stopped, but after a failure of its own collective: a victim too.
            (_, Some(state)) if state.failed => {}
            (Some(old), Some(new)) if old.beat == new.beat => {
                let seconds = now_ms().saturating_sub(new.at_ms).div_ceil(1000);
                silent.push(format!(
                    "rank {other} of {size} has not been heard from for {seconds} s, since phase `{}`",
                    new.phase
                ));
            }
            (_, Some(new)) if new.collectives < own.collectives => behind.push(format!(
                "rank {other} of {size} is alive but still in phase `{}`, {} collectives behind",
                new.phase,
                own.collectives - new.collectives
            )),
            _ => {}
        }
    }
    Ok(if !silent.is_empty() {
        silent.join("; ")
    } else if !behind.is_empty() {
        behind.join("; ")
    } else {
        format!("none of the {size} ranks is missing")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    fn server() -> Store {
        Store::tcp("127.0.0.1", 0, true, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn the_rank_whose_heart_stopped_is_named_and_the_others_are_not() {
        let store = server();
        let hearts: Vec<Heartbeat> = (0..3)
            .map(|rank| Heartbeat::start(store.reconnect().unwrap(), rank, TICK).unwrap())
            .collect();
        let [own, mut others @ ..]: [Heartbeat; 3] = hearts.try_into().unwrap();
        others[1].update(|state| state.phase = "score".to_owned());
        std::thread::sleep(3 * TICK);
        let state = own.update(|state| state.collectives = 1);
        let alive = who_is_missing(&store, 0, 3, &state, 4 * TICK).unwrap();
        assert!(
            alive.contains("rank 2 of 3 is alive") && alive.contains("`score`"),
            "{alive}"
        );

        let gone = std::mem::replace(
            &mut others[1],
            Heartbeat::start(store.prefix("elsewhere").unwrap(), 2, TICK).unwrap(),
        );
        drop(gone);
        let text = who_is_missing(&store, 0, 3, &state, 4 * TICK).unwrap();
        assert!(
            text.contains("rank 2 of 3 has not been heard from for"),
            "{text}"
        );
        assert!(!text.contains("rank 1"), "{text}");
    }

    #[test]
    fn a_pulse_survives_the_store() {
        let state = HeartbeatState {
            beat: 3,
            at_ms: 1_700_000_000_000,
            collectives: 9,
            failed: true,
            phase: "forward and backward".to_owned(),
            ..HeartbeatState::default()
        };
        assert_eq!(HeartbeatState::decode(&state.encode()), Some(state));
        assert_eq!(HeartbeatState::decode("nonsense"), None);
    }
}
