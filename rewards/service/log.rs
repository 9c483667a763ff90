//! One JSON object a line on standard error.

use serde_json::{Map, Value, json};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// Failures alone.
    Errors,
    /// Start, stop and every request.
    Requests,
}

impl Log {
    /// Writes an event with its fields (an object) when the level asks for it.
    pub(crate) fn info(self, event: &str, fields: Value) {
        if self >= Log::Requests {
            write("info", event, fields);
        }
    }

    /// Writes a failure.
    pub(crate) fn error(self, event: &str, fields: Value) {
        write("error", event, fields);
    }
}

fn write(level: &str, event: &str, fields: Value) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = now.map_or(0.0, |since| since.as_secs_f64());
    let mut line = Map::new();
    line.insert("time".into(), json!((time * 1e3).round() / 1e3));
    line.insert("level".into(), level.into());
    line.insert("event".into(), event.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    // A log that cannot be written must not stop the service.
    let _ = writeln!(std::io::stderr(), "{}", Value::Object(line));
}
