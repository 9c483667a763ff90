//! What becomes of a panic: a bug of this program, told with the place where it happened.
//!
//! Panics that are caught on purpose (drawing code on a hostile document, tch's operators when libtorch
//! fails) are answers, not bugs, and are told by who catches them. One of the main thread ends the
//! program with one sentence; one of another thread is said at once. RUST_BACKTRACE=1 adds the way there.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};

use super::Failure;

thread_local! {
    static LAST: RefCell<Option<Bug>> = const { RefCell::new(None) };
}

/// A panic that nobody expected.
struct Bug {
    thread: String,
    text: String,
    /// `file:line:column`
    place: String,
    way: Backtrace,
}

impl Bug {
    fn of(info: &PanicHookInfo<'_>) -> Self {
        Self {
            thread: std::thread::current()
                .name()
                .unwrap_or("unnamed")
                .to_owned(),
            text: info.payload_as_str().unwrap_or("no message").to_owned(),
            place: info
                .location()
                .map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
            // Empty unless RUST_BACKTRACE asks for it.
            way: Backtrace::capture(),
        }
    }

    fn way(&self) -> String {
        match self.way.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{}", self.way),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.text, self.place)
    }
}

/// Has panics told as this module says.
pub fn install() {
    set_hook(Box::new(|info| {
        if svg::catches_panics() || torch_ext::catches_panics() {
            return;
        }
        let bug = Bug::of(info);
        if bug.thread == "main" {
            LAST.set(Some(bug));
        } else {
            eprintln!(
                "internal error in thread {}: {bug}{}",
                bug.thread,
                bug.way()
            );
        }
    }));
}

/// Runs the program; a panic becomes its failure.
///
/// # Errors
/// What `program` says, or the panic's message with its place.
pub fn told<T>(program: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|payload| {
        let said = match LAST.take() {
            Some(bug) => format!("{bug}{}", bug.way()),
            None => panic_message::get_panic_message(&payload)
                .unwrap_or("no message")
                .to_owned(),
        };
        Err(Failure::other(format!("internal error: {said}")))
    })
}
