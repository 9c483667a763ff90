//! A function over many things on all cores, its answers in the things' order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cli::Failure;

/// Documents nest; what reads them recurses.
const STACK: usize = 16 << 20;

/// The answers of `work` to each of `items`; `None` where it panicked.
///
/// # Errors
/// Threads that cannot be started.
pub fn in_order<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Result<Vec<Option<R>>, Failure> {
    let next = AtomicUsize::new(0);
    let answers: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::default()).collect();
    let share = || {
        while let Some((item, place)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).zip(answers.get(at))
        } {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
            if let (Ok(answer), Ok(mut place)) = (caught, place.lock()) {
                *place = Some(answer);
            }
        }
    };
    std::thread::scope(|scope| -> Result<(), Failure> {
        for _ in 0..threads.min(items.len()) {
            let thread = std::thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, share).map_err(Failure::other)?;
        }
        Ok(())
    })?;
    let taken = answers.into_iter().map(|place| place.into_inner().ok());
    Ok(taken.map(Option::flatten).collect())
}

/// One thread for each core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_in_order_and_a_panic_costs_its_own_alone() {
        let items: Vec<usize> = (0..100).collect();
        let answers = in_order(&items, 4, |item| {
            assert!(*item != 50, "expected by the test");
            item * 2
        })
        .unwrap();
        for (at, answer) in answers.iter().enumerate() {
            assert_eq!(*answer, (at != 50).then_some(at * 2));
        }
    }
}
