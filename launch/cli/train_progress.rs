//! What people hear of a run: one line a step with time left, notices, and the report.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trainer::config::StageCommon;
use trainer::metrics::{Metric, Metrics, keys};
use trainer::{Observer, RunEnd};

use crate::progress::duration;
use crate::report;
use crate::telemetry::LINES;

/// Tells one line a step, and rewrites the report at each checkpoint.
pub(super) struct TrainProgress {
    folder: PathBuf,
    pace: Pace,
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
            reading: None,
            preparing: None,
        }
    }

    /// Tells how the run ended.
    pub(super) fn end(&self, end: RunEnd) {
        match end {
            RunEnd::Finished => say(&format!(
                "done: {}",
                self.folder.join("report.html").display()
            )),
            RunEnd::AlreadyFinished => {}
            RunEnd::Interrupted(_) => {
                say("stopped by a signal; the state is written, run the same command to continue")
            }
        }
    }
}

impl Observer for TrainProgress {
    fn row(&mut self, stage: &StageCommon, step: u64, metrics: &Metrics) {
        if tracing::enabled!(target: LINES, tracing::Level::DEBUG) {
            let all: Vec<String> = metrics
                .iter()
                .map(|(name, value)| format!("{name}={value:.6}"))
                .collect();
            tracing::debug!(target: LINES, "{} {step}: {}", stage.name, all.join(" "));
        }
        let brief = |shown: &[(&Metric, &str)]| -> String {
            let shown = shown.iter().filter_map(|(metric, label)| {
                metrics
                    .get(metric)
                    .map(|value| format!("{label} {value:.4}"))
            });
            shown.collect::<Vec<_>>().join("  ")
        };
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
        let left = duration(each * (stage.steps - step) as f64);
        let imitation = match metrics.get(&keys::DPO_LOSS) {
            Some(_) => "nll",
            None => "loss",
        };
        let shown = brief(&[
            (&keys::DPO_LOSS, "loss"),
            (&keys::DPO_ACCURACY, "accuracy"),
            (&keys::DPO_MARGIN, "margin"),
            (&keys::SFT_LOSS, imitation),
            (&keys::REWARD_MEAN, "reward"),
            (&keys::VALID, "valid"),
            (&keys::TOKENS_MEAN, "tokens"),
            (&keys::KL_REF, "kl"),
            (&keys::GRAD_NORM, "grad"),
        ]);
        tracing::info!(
            target: LINES,
            passing = step < stage.steps,
            stage = stage.name,
            step,
            steps = stage.steps,
            seconds,
            "{} {step}/{}  {shown}  {seconds:.2} s/step  {left} left",
            stage.name,
            stage.steps
        );
    }

    fn checkpoint(&mut self, run: &Path) {
        if let Err(error) = report::write_rendered(run, &run.join("report.html")) {
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
