//! Threads that draw in this process, watched from outside: the caller waits no longer than its
//! deadline. A thread cannot be killed, so one that overruns is left to end by itself and replaced;
//! the limits make that rare, and while a few are running on the process draws no more itself.

use crate::failure::{Failure, Reason};
use crate::isolate::{on_large_stack, spawn_large_stack};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Threads that may be left running before everything goes to worker processes, until one of them has ended.
const MAX_LOST: usize = 4;

type WatchedJob = Box<dyn FnOnce() + Send>;

/// The idle threads, each behind its queue.
#[derive(Default)]
pub(crate) struct WatchdogThreads {
    idle: Mutex<Vec<mpsc::Sender<WatchedJob>>>,
    lost: Arc<AtomicUsize>,
}

impl WatchdogThreads {
    /// Whether work may still be done here.
    pub fn are_open(&self) -> bool {
        self.lost.load(Ordering::Relaxed) < MAX_LOST
    }

    /// Runs `work` on a thread with a large stack; [`Reason::Deadline`] when it takes longer, and
    /// [`Reason::Panic`] when it panics.
    pub fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let lane = idle.map_or_else(start, Ok)?;
        let (reply, answer) = mpsc::channel();
        // Set by whichever comes first, the end of the work or the end of waiting for it.
        let parted = Arc::new(AtomicBool::new(false));
        let (ended, lost) = (parted.clone(), self.lost.clone());
        let job: WatchedJob = Box::new(move || {
            let result = on_large_stack(work);
            if ended.swap(true, Ordering::SeqCst) {
                lost.fetch_sub(1, Ordering::SeqCst);
            }
            // The caller may have stopped waiting.
            let _ = reply.send(result);
        });
        lane.send(job)
            .map_err(|_| Failure::new(Reason::RenderFailed, "a drawing thread ended"))?;
        match answer.recv_timeout(deadline) {
            Ok(result) => {
                self.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(lane);
                result
            }
            Err(_) => {
                self.lost.fetch_add(1, Ordering::SeqCst);
                if parted.swap(true, Ordering::SeqCst) {
                    self.lost.fetch_sub(1, Ordering::SeqCst);
                }
                let detail = format!(
                    "still drawing in this process after {} ms",
                    deadline.as_millis()
                );
                Err(Failure::new(Reason::Deadline, detail))
            }
        }
    }
}

fn start() -> Result<mpsc::Sender<WatchedJob>, Failure> {
    let (sender, jobs) = mpsc::channel::<WatchedJob>();
    let serve = move || jobs.into_iter().for_each(|job| job());
    spawn_large_stack("svg-draw", serve).map_err(|e| {
        Failure::new(
            Reason::WorkerUnavailable,
            format!("cannot start a thread: {e}"),
        )
    })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overrun_is_left_behind_and_counted() {
        let lanes = WatchdogThreads::default();
        let (release, held) = mpsc::channel::<()>();
        let stuck = lanes.run(Duration::from_millis(20), move || Ok(held.recv().is_ok()));
        assert_eq!(stuck.map_err(|f| f.reason), Err(Reason::Deadline));
        assert_eq!(lanes.run(Duration::from_secs(9), || Ok(7)), Ok(7));
        assert!(lanes.are_open());
        lanes.lost.store(MAX_LOST, Ordering::Relaxed);
        assert!(!lanes.are_open());
        // It ends after all.
        drop(release);
        let start = std::time::Instant::now();
        while !lanes.are_open() {
            assert!(
                start.elapsed() < Duration::from_secs(9),
                "it is not counted back"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_panic_leaves_the_thread_usable() {
        let lanes = WatchdogThreads::default();
        let deadline = Duration::from_secs(9);
        let panicked = lanes.run::<()>(deadline, || panic!("boom"));
        assert_eq!(panicked, Err(Failure::new(Reason::Panic, "boom")));
        assert_eq!(lanes.run(deadline, || Ok(7)), Ok(7));
    }
}
