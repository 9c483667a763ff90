//! The bar below the lines, on a terminal: the stage with its time left, then the phase that is under way with its
//! own.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::field::{Field, Visit};
use tracing::span::Id;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{FilterFn, Filtered, filter_fn};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use trainer::telemetry::{PHASES, PROGRESS};

use crate::progress::duration;

/// The bar of a run; clones are the same bar.
#[derive(Clone)]
pub(super) struct LiveBar {
    bar: ProgressBar,
    phase: Arc<Mutex<PhaseState>>,
}

/// What a step's line says of its stage.
#[derive(Default)]
pub(super) struct StagePace {
    pub(super) stage: String,
    pub(super) step: u64,
    pub(super) steps: u64,
    /// Seconds that the stage still needs, where they are known.
    pub(super) left: Option<f64>,
}

/// The phase under way.
#[derive(Default)]
struct PhaseState {
    /// Seconds that the stage needed when its last step ended.
    stage_left: Option<(f64, Instant)>,
    name: String,
    since: Option<Instant>,
    done: u64,
    all: u64,
}

impl LiveBar {
    /// On standard error.
    pub(super) fn new() -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(5))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target);
        // Nothing is drawn before a stage or phase is known.
        let style = ProgressStyle::with_template("{prefix}{bar:20} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar,
            phase: Arc::default(),
        }
    }

    /// Takes the bar away while `write` writes lines above it.
    pub(super) fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// A step has ended.
    pub(super) fn step(&self, pace: &StagePace) {
        {
            let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
            let prefix = format!("{} ", pace.stage);
            if self.bar.prefix() != prefix {
                phase.stage_left = None;
                self.bar.set_prefix(prefix);
            }
            if let Some(left) = pace.left {
                phase.stage_left = Some((left, Instant::now()));
            }
        }
        self.bar.set_length(pace.steps);
        self.bar.set_position(pace.step);
        if pace.step >= pace.steps {
            self.bar.set_message("");
        }
    }

    /// The run has ended.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn enter(&self, name: &str) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        *phase = PhaseState {
            stage_left: phase.stage_left,
            name: name.replace('_', " "),
            since: Some(Instant::now()),
            ..PhaseState::default()
        };
        self.bar.set_message(phase.words());
    }

    fn leave(&self) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        phase.since = None;
    }

    fn progress(&self, done: u64, all: u64) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        (phase.done, phase.all) = (done, all);
        self.bar.set_message(phase.words());
    }

    /// The layer that hears of phases and of how far they are.
    pub(super) fn layer<S>(&self) -> Filtered<LiveLayer, FilterFn, S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let heard: FilterFn =
            filter_fn(|about| about.target() == PHASES || about.target() == PROGRESS);
        LiveLayer(self.clone()).with_filter(heard)
    }
}

impl PhaseState {
    fn words(&self) -> String {
        let mut words = Vec::new();
        if let Some((left, at)) = self.stage_left {
            let left = left - at.elapsed().as_secs_f64();
            words.push(format!("{} left", duration(left)));
        }
        let taken = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        words.push(match (self.done, self.all) {
            (_, 0) => self.name.clone(),
            (0, all) => format!("{} 0/{all}", self.name),
            (done, all) => {
                let rest = all.saturating_sub(done) as f64;
                let left = taken.as_secs_f64() / done as f64 * rest;
                format!("{} {done}/{all}, {} left", self.name, duration(left))
            }
        });
        words.join(" | ")
    }
}

/// Tells a [`LiveBar`] of the phases of the thread that runs the steps.
pub(super) struct LiveLayer(LiveBar);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LiveLayer {
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            self.0.enter(span.name());
        }
    }

    fn on_exit(&self, _id: &Id, _context: Context<'_, S>) {
        self.0.leave();
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut counts = Counts::default();
        event.record(&mut counts);
        self.0.progress(counts.done, counts.all);
    }
}

#[derive(Default)]
struct Counts {
    done: u64,
    all: u64,
}

impl Visit for Counts {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "done" => self.done = value,
            "all" => self.all = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn Debug) {}
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::Registry;
    use trainer::telemetry::{Phase, progress};

    use super::*;

    #[test]
    fn a_bar_tells_of_stage_and_phase() {
        let live = LiveBar::on(ProgressDrawTarget::hidden());
        let subscriber = Registry::default().with(live.layer());
        tracing::subscriber::with_default(subscriber, || {
            let entered = Phase::Generate.enter();
            progress(0, 64);
            assert_eq!(live.bar.message(), "generate 0/64");
            progress(64, 64);
            assert_eq!(live.bar.message(), "generate 64/64, 0s left");
            drop(entered);
            live.step(&StagePace {
                stage: "rl".into(),
                step: 3,
                steps: 100,
                left: Some(3600.2),
            });
            let _entered = Phase::ForwardBackward.enter();
            assert_eq!(live.bar.message(), "1h00m left | forward backward");
            assert_eq!((live.bar.position(), live.bar.length()), (3, Some(100)));
            // What no phase is, is not heard.
            tracing::info!(done = 7_u64, "anything");
            assert_eq!(live.bar.message(), "1h00m left | forward backward");
        });
    }
}
