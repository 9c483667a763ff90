//! An [`EncoderCount`] in the making.

use super::EncoderCount;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts passes and what is in them, by several threads.
#[derive(Default)]
pub(super) struct PassCounter {
    passes: AtomicU64,
    items: AtomicU64,
}

impl PassCounter {
    /// One more pass, of so many items.
    pub fn add(&self, items: usize) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.items.fetch_add(items as u64, Ordering::Relaxed);
    }

    /// All so far.
    pub fn read(&self) -> EncoderCount {
        let [passes, items] = [&self.passes, &self.items].map(|n| n.load(Ordering::Relaxed));
        EncoderCount { passes, items }
    }
}
