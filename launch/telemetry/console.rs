//! Lines for people: one a step on rank 0, notices, and warnings from anywhere below; on a terminal a bar below them.
//! `train.log` holds every line, and what ended the run.

use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::live::{LiveBar, StagePace};

/// Target of events whose message is a whole line; other events are warnings when they reach the console.
pub const LINES: &str = "svgrl::console";

/// Target of failures that end the program, which tells them itself.
pub const TOLD: &str = "svgrl::told";

/// How much the console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// A line a step.
    Normal,
    /// Every metric of each step.
    Verbose,
}

/// Writes lines to standard error and to `train.log`.
pub(super) struct ConsoleLayer {
    verbosity: Verbosity,
    /// Whether this rank speaks at all.
    leader: bool,
    terminal: bool,
    record: Option<Mutex<File>>,
    /// Of a run on a terminal.
    live: Option<LiveBar>,
}

impl ConsoleLayer {
    pub(super) fn new(verbosity: Verbosity, leader: bool, record: Option<File>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let shows = terminal && leader && record.is_some() && verbosity != Verbosity::Quiet;
        Self {
            verbosity,
            leader,
            terminal,
            record: record.map(Mutex::new),
            live: shows.then(LiveBar::new),
        }
    }

    /// The bar below the lines, if one is shown.
    pub(super) fn live(&self) -> Option<LiveBar> {
        self.live.clone()
    }

    /// Writes a line to `train.log` alone.
    fn record(&self, line: &str) {
        if let Some(record) = &self.record {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(record, "{line}");
        }
    }

    /// Writes a line; one that is `passing` is written over by the next on a terminal.
    fn say(&self, line: &str, level: Level, passing: bool) {
        self.record(line);
        if (self.verbosity == Verbosity::Quiet && level > Level::ERROR) || !self.leader {
            return;
        }
        // Whoever closed standard error does not want the lines.
        let write = || {
            let mut out = std::io::stderr().lock();
            let _ = match (self.terminal, passing) {
                (true, true) => write!(out, "\r\x1b[K{line}"),
                (true, false) => writeln!(out, "\r\x1b[K{line}"),
                (false, _) => writeln!(out, "{line}"),
            };
            let _ = out.flush();
        };
        match &self.live {
            Some(live) => live.above(write),
            None => write(),
        }
    }
}

/// An event's message, whether it passes, and its other fields.
#[derive(Default)]
struct Line {
    message: String,
    passing: bool,
    pace: StagePace,
    fields: String,
}

impl Visit for Line {
    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "passing" => self.passing = value,
            _ => self.record_debug(field, &value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "step" => self.pace.step = value,
            "steps" | "stage_steps" => self.pace.steps = value,
            _ => {}
        }
        self.record_debug(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "left" {
            self.pace.left = Some(value);
        }
        self.record_debug(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "stage" {
            value.clone_into(&mut self.pace.stage);
        }
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber> Layer<S> for ConsoleLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line::default();
        event.record(&mut line);
        if metadata.target() == LINES {
            let wanted = match *metadata.level() {
                Level::DEBUG | Level::TRACE => self.verbosity == Verbosity::Verbose,
                _ => true,
            };
            if wanted {
                self.say(&line.message, *metadata.level(), line.passing);
            }
            if let Some(live) = self.live.as_ref().filter(|_| line.pace.steps > 0) {
                live.step(&line.pace);
            }
        } else if metadata.target() == TOLD {
            // Whoever ends the program says it to people.
            self.record(&format!("error: {}", line.message));
            if let Some(live) = &self.live {
                live.clear();
            }
        } else if *metadata.level() <= Level::WARN {
            let level = *metadata.level();
            let named = level.as_str().to_lowercase();
            self.say(
                &format!("{named}: {}{}", line.message, line.fields),
                level,
                false,
            );
        }
    }
}
