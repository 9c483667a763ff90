//! Progress for people: a bar with time left on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between plain lines.
const PAUSE: Duration = Duration::from_secs(10);

/// How far a long piece of work is.
pub struct Bar {
    name: String,
    bar: Option<ProgressBar>,
    quiet: bool,
    total: u64,
    done: u64,
    started: Instant,
    said: Instant,
}

impl Bar {
    /// A bar over `total` items; nothing is printed when `quiet`.
    pub fn new(name: &str, total: u64, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::new(total);
            let style =
                ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.to_owned());
            bar
        });
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            bar,
            quiet,
            total,
            done: 0,
            started: now,
            said: now,
        }
    }

    /// `count` further items are done.
    pub fn advance(&mut self, count: u64) {
        self.done += count;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if !self.quiet && self.said.elapsed() > PAUSE => {
                self.said = Instant::now();
                eprintln!(
                    "{}: {} of {}, {} left",
                    self.name,
                    self.done,
                    self.total,
                    duration(self.left())
                );
            }
            None => {}
        }
    }

    fn left(&self) -> f64 {
        let each = self.started.elapsed().as_secs_f64() / self.done.max(1) as f64;
        each * (self.total - self.done.min(self.total)) as f64
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Seconds as people write them.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
