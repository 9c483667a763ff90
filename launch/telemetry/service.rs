//! The scoring service's log: one JSON object a line on standard error, written by a thread of its own,
//! so that whoever reads it slowly, or not at all, holds up no request. Lines that find no room are
//! counted and left out.

use std::fmt::Debug;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that may wait to be written.
const WAITING: usize = 4096;

/// Writes events as JSON lines.
pub(super) struct ServiceLayer {
    out: Mutex<LogOutput>,
}

/// Where lines go.
struct LogOutput {
    writer: NonBlocking,
    /// Lines left out.
    lost: ErrorCounter,
    /// How many of them were told, or were such a telling.
    told: usize,
}

/// The layer over `out`; what waits is written when the guard is dropped, within a second.
pub(super) fn layer(out: impl Write + Send + 'static) -> (ServiceLayer, WorkerGuard) {
    with_room(WAITING, out)
}

fn with_room(lines: usize, out: impl Write + Send + 'static) -> (ServiceLayer, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(lines)
        .thread_name("service-log")
        .finish(out);
    let out = LogOutput {
        lost: writer.error_counter(),
        writer,
        told: 0,
    };
    let out = Mutex::new(out);
    (ServiceLayer { out }, guard)
}

impl<S: Subscriber> Layer<S> for ServiceLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let level = event.metadata().level().as_str().to_lowercase();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.write(&level, Value::Object(fields.0)) {
            out.tell_lost();
        }
    }
}

impl LogOutput {
    /// Says how many lines were left out, once there is room for it.
    fn tell_lost(&mut self) {
        let lost = self.lost.dropped_lines();
        if lost == self.told {
            return;
        }
        let count = json!({"event": "log_lost", "lines": lost - self.told});
        match self.write("error", count) {
            true => self.told = lost,
            false => self.told += 1,
        }
    }

    /// Writes a line; false where it finds no room, which the writer counts.
    fn write(&mut self, level: &str, fields: Value) -> bool {
        let before = self.lost.dropped_lines();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = now.map_or(0.0, |since| since.as_secs_f64());
        let mut line = Map::new();
        line.insert("time".into(), json!((time * 1e3).round() / 1e3));
        line.insert("level".into(), level.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let text = format!("{}\n", Value::Object(line));
        // A log that cannot be written must not stop the service.
        let _ = self.writer.write_all(text.as_bytes());
        self.lost.dropped_lines() == before
    }
}

/// An event's fields as JSON.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0
            .insert(field.name().into(), json!(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::Registry;

    use super::*;

    /// Writes when it is let.
    struct Slow(Receiver<()>, Sender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up() {
        let ((go, may), (said, written)) = (channel(), channel());
        let (layer, guard) = with_room(2, Slow(may, said));
        let subscriber = Registry::default().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..9 {
                tracing::info!(event = "request", number);
            }
            drop(go);
            // Room again once what waited is written; then the loss is told.
            let pause = Duration::from_secs(1);
            let mut lines: Vec<Value> = Vec::new();
            let mut read = || {
                while let Ok(line) = written.recv_timeout(pause) {
                    lines.push(serde_json::from_str(&line).unwrap());
                }
            };
            read();
            tracing::info!(event = "request", number = 9);
            read();
            drop(guard);
            assert_eq!(lines[0]["number"], 0);
            let requests = lines
                .iter()
                .filter(|line| line["event"] == "request")
                .count();
            let lost: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
            assert!(lost >= 5, "{lines:?}");
            assert_eq!(requests as u64 + lost, 10, "{lines:?}");
        });
    }
}
