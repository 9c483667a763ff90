//! A function over many rows on all cores, its answers in the rows' order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::cli::CliFailure;

/// Documents nest; what reads them recurses.
const STACK: usize = 16 << 20;

/// Threads that share the rows of a batch among them.
pub struct RowThreads {
    pool: ThreadPool,
}

impl RowThreads {
    /// So many threads; 0: one for each core.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn new(threads: usize) -> Result<Self, CliFailure> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .stack_size(STACK)
            .thread_name(|at| format!("rows-{at}"))
            .build()
            .map_err(CliFailure::other)?;
        Ok(Self { pool })
    }

    /// The answers of `work` to each of `items`, in their order; `None` where it panicked.
    pub fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> R + Sync,
    ) -> Vec<Option<R>> {
        let caught = |item| catch_unwind(AssertUnwindSafe(|| work(item))).ok();
        self.pool
            .install(|| items.par_iter().with_max_len(1).map(caught).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_in_order_and_a_panic_costs_its_own_alone() {
        let items: Vec<usize> = (0..100).collect();
        for threads in [1, 4, 0] {
            let answers = RowThreads::new(threads).unwrap().map(&items, |item| {
                assert!(*item != 50, "expected by the test");
                item * 2
            });
            assert_eq!(answers.len(), items.len());
            for (at, answer) in answers.iter().enumerate() {
                assert_eq!(*answer, (at != 50).then_some(at * 2));
            }
        }
    }
}
