//! How much may be inside at once: a count with a limit, and places that give themselves back.

use super::ServiceConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a service has room for.
pub(crate) struct Room {
    /// Completions that wait or are judged.
    pub items: Places,
    /// Requests being answered.
    pub requests: Places,
}

impl Room {
    pub fn new(config: &ServiceConfig) -> Self {
        Room {
            items: Places::new(config.queue),
            requests: Places::new(config.max_requests),
        }
    }
}

/// A bounded number of places.
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// A taken place; dropping it gives it back.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    pub fn new(limit: usize) -> Self {
        Places {
            taken: Arc::default(),
            limit,
        }
    }

    /// `count` places, or none at all when fewer are free.
    pub fn take(&self, count: usize) -> Option<Vec<Place>> {
        let fits = |taken: usize| taken.checked_add(count).filter(|&sum| sum <= self.limit);
        self.taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits)
            .ok()?;
        Some((0..count).map(|_| Place(self.taken.clone())).collect())
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sets its flag when the request it belongs to ends, answered or gone.
pub(crate) struct CancelOnDrop(pub Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let places = Places::new(3);
        let first = places.take(2).unwrap();
        assert!(places.take(2).is_none());
        let second = places.take(1).unwrap();
        assert_eq!(places.taken(), 3);
        drop((first, second));
        assert_eq!(places.taken(), 0);
        assert!(places.take(usize::MAX).is_none());
    }
}
