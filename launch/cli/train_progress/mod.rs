//! What people hear of a run: what it is, one line a step with time left, notices, warnings, the report, and what it
//! came to.

mod line;
mod warnings;
mod words;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trainer::config::StageCommon;
use trainer::metrics::{Metrics, keys};
use trainer::{Observer, RunEnd, RunHeader};

use self::warnings::RunWarnings;
use crate::progress::duration;
use crate::report;
use crate::telemetry::LINES;

/// Tells one line a step, and rewrites the report at each checkpoint.
pub(super) struct TrainProgress {
    folder: PathBuf,
    pace: Pace,
    warnings: RunWarnings,
    /// The stage that was told of last.
    stage: Option<StageCommon>,
    /// When the scan of a source's files began.
    reading: Option<Instant>,
    /// When the preparation of a stage began, and when it was last told of.
    preparing: Option<(Instant, Instant)>,
}

/// Time between plain lines of a preparation.
const PAUSE: Duration = Duration::from_secs(10);

/// What time left is estimated from.
struct Pace {
    stage: String,
    since: Instant,
    first: u64,
}

impl TrainProgress {
    /// Of a run in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            pace: Pace {
                stage: String::new(),
                since: Instant::now(),
                first: 0,
            },
            warnings: RunWarnings::default(),
            stage: None,
            reading: None,
            preparing: None,
        }
    }

    /// Tells how the run ended.
    pub(super) fn end(&self, end: RunEnd) {
        match end {
            RunEnd::Finished => {
                let lines = words::summary(&self.folder, self.stage.as_ref());
                lines.iter().for_each(|line| say(line));
            }
            RunEnd::AlreadyFinished => {}
            RunEnd::Interrupted(_) => {
                say("stopped by a signal; the state is written, run the same command to continue")
            }
        }
    }
}

impl Observer for TrainProgress {
    fn begins(&mut self, run: &RunHeader<'_>) {
        tracing::info!(
            target: LINES,
            stage = run.stage.name,
            step = run.step,
            stage_steps = run.stage.steps,
            "{}",
            words::header(run)
        );
    }

    fn row(&mut self, stage: &StageCommon, step: u64, metrics: &Metrics) {
        if self
            .stage
            .as_ref()
            .is_none_or(|known| known.name != stage.name)
        {
            self.stage = Some(stage.clone());
        }
        if tracing::enabled!(target: LINES, tracing::Level::DEBUG) {
            let all: Vec<String> = metrics
                .iter()
                .map(|(name, value)| format!("{name}={value:.6}"))
                .collect();
            tracing::debug!(target: LINES, "{} {step}: {}", stage.name, all.join(" "));
        }
        if let Some(set) = metrics.held_out_set() {
            let get = |metric| metrics.get_held_out(set, metric).unwrap_or(f64::NAN);
            let reward = get(&keys::REWARD_MEAN);
            // Where no task's completions are SVG, none is valid or not.
            let valid = metrics.get_held_out(set, &keys::VALID);
            let shown = valid.map_or(String::new(), |share| {
                format!(", valid {:.1} %", 100.0 * share)
            });
            tracing::info!(
                target: LINES,
                stage = stage.name,
                step,
                stage_steps = stage.steps,
                set,
                reward,
                "{} step {step}: {set} reward {reward:.4}{shown}",
                stage.name
            );
            return;
        }
        if self.pace.stage != stage.name {
            self.pace = Pace {
                stage: stage.name.clone(),
                since: Instant::now(),
                first: step,
            };
        }
        let seconds = metrics.get(&keys::TIME_STEP).unwrap_or(0.0);
        let each = match step - self.pace.first {
            0 => seconds,
            steps => self.pace.since.elapsed().as_secs_f64() / steps as f64,
        };
        let left = each * stage.steps.saturating_sub(step) as f64;
        tracing::info!(
            target: LINES,
            stage = stage.name,
            step,
            steps = stage.steps,
            seconds,
            left,
            "{}",
            line::step_line((stage, step), metrics, (seconds, left))
        );
        for warning in self.warnings.after_step(&stage.name, metrics) {
            tracing::warn!(target: LINES, "warning: {warning}");
        }
    }

    fn checkpoint(&mut self, run: &Path) {
        if let Err(error) = report::write_own(run) {
            tracing::warn!(target: LINES, "the report could not be written: {error}");
        }
    }

    fn reading(&mut self, source: &str, done: u64, all: u64) {
        let since = *self.reading.get_or_insert_with(Instant::now);
        let left = since.elapsed().as_secs_f64() * (all - done) as f64 / done.max(1) as f64;
        let gib = |bytes: u64| bytes as f64 / f64::from(1u32 << 30);
        let line = format!(
            "reading {source}: {:.2} of {:.2} GiB, {} left",
            gib(done),
            gib(all),
            duration(left)
        );
        if done == all {
            self.reading = None;
        }
        // Plain output gets the end, a terminal every change.
        if std::io::stderr().is_terminal() || done == all {
            tracing::info!(target: LINES, passing = done < all, source, done, all, "{line}");
        }
    }

    fn preparing(&mut self, what: &str, done: u64, all: u64) {
        let now = Instant::now();
        let begun = self.preparing.get_or_insert((now, now));
        let left = begun.0.elapsed().as_secs_f64() * (all - done) as f64 / done.max(1) as f64;
        // Plain output gets a line now and then and the end, a terminal every change.
        let due = begun.1.elapsed() > PAUSE || done == all;
        if due || std::io::stderr().is_terminal() {
            begun.1 = now;
            tracing::info!(target: LINES, passing = done < all, what, done, all, "{what}: {done} of {all}, {} left", duration(left));
        }
        if done == all {
            self.preparing = None;
        }
    }

    fn notice(&mut self, text: &str) {
        say(text);
    }
}

fn say(line: &str) {
    tracing::info!(target: LINES, "{line}");
}
