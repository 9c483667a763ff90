//! What is asked and answered, counted by several threads.

use super::JudgeCount;
use std::sync::atomic::{AtomicU64, Ordering};

/// A [`JudgeCount`] in the making.
#[derive(Default)]
pub(crate) struct JudgeCounter {
    asked: AtomicU64,
    failed: AtomicU64,
    tokens: [AtomicU64; 2],
}

impl JudgeCounter {
    pub fn add(&self, judged: bool, tokens: [u64; 2]) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(!judged), Ordering::Relaxed);
        for (sum, count) in self.tokens.iter().zip(tokens) {
            sum.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub fn read(&self, price: [f64; 2]) -> JudgeCount {
        let tokens = [0, 1].map(|i| self.tokens[i].load(Ordering::Relaxed));
        let cost = tokens
            .iter()
            .zip(price)
            .map(|(&count, price)| count as f64 * price / 1e6);
        JudgeCount {
            asked: self.asked.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            tokens,
            cost: cost.sum(),
        }
    }
}
