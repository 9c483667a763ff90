//! Standard output and error as they may be: closed. `svgrl train .. | head` ends nothing, and what reads no
//! further is told no further; an output that is full is a failure.
//!
//! The macros take the place of the standard library's of the same names everywhere below this module's
//! declaration: those panic where a line cannot be written.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

/// Why standard output took no more, if it was not closed.
static FULL: OnceLock<String> = OnceLock::new();

macro_rules! println {
    ($($text:tt)*) => {
        $crate::console::out(format_args!("{}\n", format_args!($($text)*)))
    };
}

macro_rules! print {
    ($($text:tt)*) => { $crate::console::out(format_args!($($text)*)) };
}

macro_rules! eprintln {
    ($($text:tt)*) => { $crate::console::err(format_args!($($text)*)) };
}

/// Writes to standard output.
pub fn out(text: Arguments) {
    let mut out = std::io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        FULL.get_or_init(|| error.to_string());
    }
}

/// Writes a line to standard error.
pub fn err(text: Arguments) {
    // In one piece, for the ranks of a run write to one place.
    let _ = std::io::stderr()
        .lock()
        .write_all(format!("{text}\n").as_bytes());
}

/// Why standard output is not whole, where nobody closed it.
pub fn failure() -> Option<String> {
    FULL.get().map(|error| format!("standard output: {error}"))
}
