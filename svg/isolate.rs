//! Threads with a stack that the depth limit cannot exhaust, and panics turned into reasons.

use crate::failure::{Failure, Reason};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle, Scope};

/// Bytes; only the pages touched are used.
const STACK: usize = 256 << 20;

thread_local! {
    static LARGE: Cell<bool> = const { Cell::new(false) };
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is at work whose panics become [`Reason::Panic`]: a panic hook need not tell
/// of them.
pub fn catches_panics() -> bool {
    CATCHES.get()
}

/// Starts a thread on which documents can be drawn without changing threads.
pub fn spawn_large_stack(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(move || {
            LARGE.set(true);
            work();
        })
}

/// Whether this thread has a large stack.
pub(crate) fn has_large_stack() -> bool {
    LARGE.get()
}

/// Runs `work` on a large stack: here, if this thread has one, else on a thread of its own. A panic
/// becomes [`Reason::Panic`].
pub fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    if LARGE.get() {
        return caught(work);
    }
    std::thread::scope(|scope: &Scope<'_, '_>| {
        let thread = Builder::new()
            .name("svg-render".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || {
                LARGE.set(true);
                caught(work)
            });
        match thread {
            Ok(handle) => handle.join().unwrap_or_else(|panic| Err(panicked(&panic))),
            Err(error) => Err(Failure::new(
                Reason::WorkerUnavailable,
                format!("cannot start a thread: {error}"),
            )),
        }
    })
}

/// Runs `work` here; a panic becomes [`Reason::Panic`].
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let before = CATCHES.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CATCHES.set(before);
    done.unwrap_or_else(|panic| Err(panicked(&panic)))
}

fn panicked(panic: &Box<dyn Any + Send>) -> Failure {
    let text = panic_message::get_panic_message(panic);
    Failure::new(Reason::Panic, text.unwrap_or("the drawing code panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_reason() {
        let result = on_large_stack::<()>(|| panic!("boom"));
        assert_eq!(result, Err(Failure::new(Reason::Panic, "boom")));
    }

    #[test]
    fn work_on_a_large_stack_stays_on_its_thread() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = spawn_large_stack("test", move || {
            let here = std::thread::current().id();
            let there = on_large_stack(|| Ok(std::thread::current().id())).unwrap();
            sender.send(here == there).unwrap();
        });
        thread.unwrap().join().unwrap();
        assert!(receiver.recv().unwrap());
    }
}
