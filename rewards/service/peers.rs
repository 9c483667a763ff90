//! Who is connected, and who is waited for: when places run out, those who keep the service waiting the
//! longest give theirs to others, so that slow senders keep nobody out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often a full table is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// Bounds of connections.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Open at the same time.
    pub most: usize,
    /// Of them, those whose bodies are arriving.
    pub bodies: usize,
    /// How long a connection may be silent before a request's head is whole.
    pub idle: Duration,
    /// How long one is waited for before it may be closed in favour of another.
    pub patience: Duration,
}

/// All connections.
pub(crate) struct Peers {
    bounds: Bounds,
    table: Mutex<Table>,
    left: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, OpenConnection>,
}

struct OpenConnection {
    phase: ConnectionPhase,
    closed: Arc<Notify>,
}

/// What a connection is at, and since when it is waited for.
#[derive(Clone, Copy, PartialEq)]
enum ConnectionPhase {
    /// Its next request, or the rest of one that was answered already, is to come.
    Waiting(Instant),
    /// A request's body is arriving.
    Body(Instant),
    /// A request is being answered.
    Working,
    /// It was told to close.
    Leaving,
}

/// One connection, seen from its own task and its requests; it leaves when this is dropped.
pub(crate) struct Peer {
    id: u64,
    peers: Arc<Peers>,
    closed: Arc<Notify>,
}

impl Peers {
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Peers {
            bounds,
            table: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// A place for one more, once there is one.
    pub async fn enter(self: &Arc<Self>) -> Peer {
        loop {
            let left = self.left.notified();
            if let Some(peer) = self.try_enter() {
                return peer;
            }
            // Patience may run out without anyone leaving.
            let _ = tokio::time::timeout(POLL, left).await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Peer> {
        let mut table = self.lock();
        if table.open.len() >= self.bounds.most {
            table.close_oldest(self.bounds.patience, |phase| {
                phase != ConnectionPhase::Working
            });
            return None;
        }
        let (id, closed) = (table.next, Arc::new(Notify::new()));
        table.next += 1;
        let entry = OpenConnection {
            phase: ConnectionPhase::Waiting(Instant::now()),
            closed: closed.clone(),
        };
        table.open.insert(id, entry);
        drop(table);
        let peers = self.clone();
        Some(Peer { id, peers, closed })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Tells the one to close that is waited for the longest, if longer than `patience`.
    fn close_oldest(
        &mut self,
        patience: Duration,
        counts: impl Fn(ConnectionPhase) -> bool,
    ) -> bool {
        let since = |entry: &OpenConnection| match entry.phase {
            ConnectionPhase::Waiting(since) | ConnectionPhase::Body(since) => Some(since),
            ConnectionPhase::Working | ConnectionPhase::Leaving => None,
        };
        let all = self.open.values_mut().filter(|entry| counts(entry.phase));
        let slow = all.filter(|entry| since(entry).is_some_and(|at| at.elapsed() > patience));
        let Some(oldest) = slow.min_by_key(|entry| since(entry)) else {
            return false;
        };
        oldest.phase = ConnectionPhase::Leaving;
        oldest.closed.notify_one();
        true
    }
}

impl Peer {
    /// Resolves when the connection has to close.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }

    /// A request's head is here, or its body is.
    pub fn works(&self) {
        self.set(ConnectionPhase::Working);
    }

    /// The request is answered.
    pub fn answered(&self) {
        self.set(ConnectionPhase::Waiting(Instant::now()));
    }

    /// The request's body is to arrive; false when too many are arriving already.
    pub fn sends_body(&self) -> bool {
        let mut table = self.peers.lock();
        let is_body = |phase| matches!(phase, ConnectionPhase::Body(_));
        let bodies = table.open.values().filter(|entry| is_body(entry.phase));
        let (most, patience) = (self.peers.bounds.bodies, self.peers.bounds.patience);
        let room = bodies.count() < most || table.close_oldest(patience, is_body);
        if let (true, Some(entry)) = (room, table.open.get_mut(&self.id)) {
            entry.phase = ConnectionPhase::Body(Instant::now());
        }
        room
    }

    fn set(&self, phase: ConnectionPhase) {
        if let Some(entry) = self.peers.lock().open.get_mut(&self.id)
            && entry.phase != ConnectionPhase::Leaving
        {
            entry.phase = phase;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.peers.lock().open.remove(&self.id);
        self.peers.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(most: usize, bodies: usize) -> Arc<Peers> {
        Peers::new(Bounds {
            most,
            bodies,
            idle: Duration::ZERO,
            patience: Duration::ZERO,
        })
    }

    fn told(peer: &Peer) -> bool {
        peer.peers.lock().open[&peer.id].phase == ConnectionPhase::Leaving
    }

    #[test]
    fn the_one_that_is_waited_for_the_longest_leaves_and_who_works_stays() {
        let peers = peers(3, 9);
        let [a, b, c] = [(); 3].map(|()| peers.try_enter().unwrap());
        a.works();
        assert!(peers.try_enter().is_none());
        assert_eq!([&a, &b, &c].map(told), [false, true, false]);
        b.answered();
        assert!(told(&b), "who was told to close does not come back");
        drop(b);
        let d = peers.try_enter().unwrap();
        [&c, &d].into_iter().for_each(Peer::works);
        assert!(peers.try_enter().is_none());
        assert_eq!([&a, &c, &d].map(told), [false; 3]);
    }

    #[test]
    fn bodies_have_places_of_their_own() {
        let peers = peers(9, 1);
        let [a, b, c] = [(); 3].map(|()| peers.try_enter().unwrap());
        assert!(a.sends_body());
        assert!(b.sends_body() && told(&a) && !told(&c));
        b.works();
        assert!(c.sends_body() && !told(&b));
    }

    #[test]
    fn nobody_leaves_before_patience_ends() {
        let patient = Peers::new(Bounds {
            patience: Duration::from_secs(9),
            ..peers(1, 1).bounds
        });
        let peer = patient.try_enter().unwrap();
        assert!(patient.try_enter().is_none() && !told(&peer));
    }
}
