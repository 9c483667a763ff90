//! One JSON object a line on standard error, written by a thread of its own: whoever reads the log slowly, or
//! not at all, holds up no request. Lines that find no room are counted and left out.

use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that may wait to be written.
const WAITING: usize = 4096;
/// How long the end waits for the last of them.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// Failures alone.
    Errors,
    /// Start, stop and every request.
    Requests,
}

/// Where events go.
pub(crate) struct Logger {
    level: Log,
    /// None once it is finished.
    lines: Mutex<Option<SyncSender<String>>>,
    lost: Arc<AtomicU64>,
    /// Says nothing, and is closed when all is written.
    written: Mutex<Receiver<()>>,
}

impl Logger {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread.
    pub fn start(level: Log) -> io::Result<Self> {
        Self::to(level, WAITING, io::stderr())
    }

    fn to(level: Log, waiting: usize, mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, inbox) = sync_channel::<String>(waiting);
        let (done, written) = sync_channel(0);
        let lost = Arc::new(AtomicU64::new(0));
        let left_out = lost.clone();
        let write = move || {
            let _done = done;
            for text in inbox {
                // A log that cannot be written must not stop the service.
                let _ = out.write_all(text.as_bytes());
                match left_out.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => {
                        let fields = json!({"lines": count});
                        let _ = out.write_all(line("error", "log_lost", fields).as_bytes());
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("service-log".into())
            .spawn(write)?;
        Ok(Logger {
            level,
            lines: Mutex::new(Some(lines)),
            lost,
            written: Mutex::new(written),
        })
    }

    /// Writes an event with its fields (an object) when the level asks for it.
    pub fn info(&self, event: &str, fields: Value) {
        if self.level >= Log::Requests {
            self.send(line("info", event, fields));
        }
    }

    /// Writes a failure.
    pub fn error(&self, event: &str, fields: Value) {
        self.send(line("error", event, fields));
    }

    /// Takes no more, and waits a moment for what is not written yet.
    pub fn finish(&self) {
        drop(
            self.lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let _: Result<(), RecvTimeoutError> = written.recv_timeout(FAREWELL);
    }

    fn send(&self, text: String) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &*lines
            && lines.try_send(text).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn line(level: &str, event: &str, fields: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = now.map_or(0.0, |since| since.as_secs_f64());
    let mut line = Map::new();
    line.insert("time".into(), json!((time * 1e3).round() / 1e3));
    line.insert("level".into(), level.into());
    line.insert("event".into(), event.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    format!("{}\n", Value::Object(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

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
        let logger = Logger::to(Log::Requests, 2, Slow(may, said)).unwrap();
        for number in 0..9 {
            logger.info("request", json!({"number": number}));
        }
        drop(go);
        logger.finish();
        let lines: Vec<Value> = written
            .try_iter()
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect();
        let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
        let lost: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
        assert!((2..=3).contains(&count("request")), "{lines:?}");
        assert_eq!(count("request") as u64 + lost, 9, "{lines:?}");
        assert_eq!(lines[0]["number"], 0);
    }
}
