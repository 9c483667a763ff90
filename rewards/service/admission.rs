//! How much may be inside at once: a count with a limit, and permits that give themselves back.

use super::ServiceConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a service has room for.
pub(crate) struct Admission {
    /// Completions that wait or are judged.
    pub items: Semaphore,
    /// Requests being answered.
    pub requests: Semaphore,
}

impl Admission {
    pub fn new(config: &ServiceConfig) -> Self {
        Admission {
            items: Semaphore::new(config.queue),
            requests: Semaphore::new(config.max_requests),
        }
    }
}

/// A bounded number of permits.
pub(crate) struct Semaphore {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// A taken permit; dropping it gives it back.
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Semaphore {
    pub fn new(limit: usize) -> Self {
        Semaphore {
            taken: Arc::default(),
            limit,
        }
    }

    /// `count` permits, or none at all when fewer are free.
    pub fn take(&self, count: usize) -> Option<Vec<Permit>> {
        let fits = |taken: usize| taken.checked_add(count).filter(|&sum| sum <= self.limit);
        self.taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits)
            .ok()?;
        Some((0..count).map(|_| Permit(self.taken.clone())).collect())
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Permit {
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
    fn permits_are_bounded_and_come_back() {
        let permits = Semaphore::new(3);
        let first = permits.take(2).unwrap();
        assert!(permits.take(2).is_none());
        let second = permits.take(1).unwrap();
        assert_eq!(permits.taken(), 3);
        drop((first, second));
        assert_eq!(permits.taken(), 0);
        assert!(permits.take(usize::MAX).is_none());
    }
}
