//! What becomes of a panic: a bug of this program, told with the place where it happened.
//!
//! Panics that are caught on purpose (drawing code on a hostile document, tch's operators when libtorch
//! fails) are answers, not bugs, and are told by who catches them. One of the main thread ends the
//! program with one sentence; one of another thread is said at once. A run's log has the way there, and the
//! console too with RUST_BACKTRACE=1.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};

use super::CliFailure;
use crate::telemetry::TOLD;

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
            text: panic_message::panic_info_message(info).to_owned(),
            place: info
                .location()
                .map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
            way: Backtrace::force_capture(),
        }
    }

    /// The way there, for the console, where it is asked for.
    fn way(&self) -> String {
        match std::env::var_os("RUST_BACKTRACE").is_some_and(|asked| asked != "0") {
            true => format!("\n{}", self.way),
            false => String::new(),
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
        tracing::error!(target: TOLD, thread = bug.thread, place = bug.place, backtrace = %bug.way, "panic: {}", bug.text);
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
pub fn told<T>(program: impl FnOnce() -> Result<T, CliFailure>) -> Result<T, CliFailure> {
    catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|payload| {
        let said = match LAST.take() {
            Some(bug) => format!("{bug}{}", bug.way()),
            None => panic_message::get_panic_message(&payload)
                .unwrap_or("no message")
                .to_owned(),
        };
        Err(CliFailure::other(format!("internal error: {said}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs one of the tests below in a process of its own, whose standard error is given.
    fn said_by(test: &str, backtrace: &str) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", test])
            .env("RUST_BACKTRACE", backtrace)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    #[test]
    fn a_panic_tells_its_place_and_the_way_there_when_asked() {
        let test = "cli::panics::tests::panics_in_a_thread";
        let said = said_by(test, "0");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with("internal error in thread worker-7: boom (at launch/cli/panics.rs:"),
            "{said}"
        );
        let long = said_by(test, "1");
        assert!(
            long.lines().count() > 3 && long.contains("panics_in_a_thread"),
            "{long}"
        );
    }

    #[test]
    fn what_is_caught_on_purpose_says_nothing() {
        assert_eq!(said_by("cli::panics::tests::is_caught_on_purpose", "1"), "");
    }

    #[test]
    #[ignore = "run by the test above"]
    fn panics_in_a_thread() {
        install();
        let thread = std::thread::Builder::new().name("worker-7".into());
        let ended = thread.spawn(|| panic!("boom")).unwrap().join();
        assert!(ended.is_err());
    }

    #[test]
    #[ignore = "run by the test above"]
    fn is_caught_on_purpose() {
        install();
        let drawn: Result<(), _> = svg::on_large_stack(|| panic!("resvg gives up"));
        assert_eq!(drawn.unwrap_err().reason, svg::Reason::Panic);
        assert_eq!(
            torch_ext::catch_torch(|| panic!("libtorch gives up")),
            Err::<(), _>("libtorch gives up".into())
        );
    }

    #[test]
    fn a_panic_of_the_program_is_its_failure() {
        let failure = told(|| -> Result<(), CliFailure> { panic!("boom") }).unwrap_err();
        assert!(
            failure.to_string().starts_with("internal error: boom"),
            "{failure}"
        );
    }
}
