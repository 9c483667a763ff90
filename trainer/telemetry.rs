//! The phases of a step as `tracing` spans, and the layer that turns their durations into the `time/`
//! metrics. Whatever else listens to the spans (logs, a trace file) is the program's choice.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tracing::span::{EnteredSpan, Id};
use tracing::subscriber::NoSubscriber;
use tracing::{Span, Subscriber};
use tracing_subscriber::filter::{FilterFn, Filtered, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::metrics::{Metric, Metrics, keys};

/// Target of the spans that are metrics.
pub const PHASES: &str = "svgrl::phase";

/// Target of the events that say how far the phase is.
pub const PROGRESS: &str = "svgrl::progress";

/// Says how much of the phase under way is done, and of how much.
pub fn progress(done: usize, all: usize) {
    tracing::trace!(target: PROGRESS, done, all);
}

macro_rules! phases {
    ($($(#[$about:meta])* $phase:ident = $span:literal => $key:ident;)*) => {
        /// A phase of a step. Phases follow one another: none is entered within another.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Phase {
            $($(#[$about])* $phase,)*
        }

        impl Phase {
            /// Every phase.
            pub const ALL: &'static [Self] = &[$(Self::$phase),*];

            /// The name of its span.
            pub fn name(self) -> &'static str {
                match self { $(Self::$phase => $span,)* }
            }

            /// The metric that its seconds are.
            pub fn metric(self) -> &'static Metric {
                match self { $(Self::$phase => &keys::$key,)* }
            }

            fn span(self) -> Span {
                match self { $(Self::$phase => tracing::info_span!(target: PHASES, $span),)* }
            }
        }
    };
}

phases! {
    /// Prompts out, completions in.
    Generate = "generate" => TIME_GENERATE;
    /// Scoring that decoding did not hide.
    ScoreExposed = "score_exposed" => TIME_SCORE_EXPOSED;
    /// What the learner computes before its gradients are summed.
    ForwardBackward = "forward_backward" => TIME_FORWARD_BACKWARD;
    /// Summing gradients over ranks.
    Reduce = "reduce" => TIME_REDUCE;
    /// Clipping and the optimizer.
    Optim = "optim" => TIME_OPTIM;
}

impl Phase {
    /// Enters the phase until the guard is dropped.
    pub fn enter(self) -> EnteredSpan {
        self.span().entered()
    }

    /// Runs `work` in the phase.
    pub fn time<T>(self, work: impl FnOnce() -> T) -> T {
        let _entered = self.enter();
        work()
    }
}

thread_local! {
    /// When the phase that this thread is in began, and what each phase took so far.
    static CLOCK: RefCell<(Option<Instant>, Vec<Duration>)> =
        RefCell::new((None, vec![Duration::ZERO; Phase::ALL.len()]));
}

/// Starts the thread's clocks anew: a step begins.
pub fn start_step() {
    CLOCK.with_borrow_mut(|(_, totals)| totals.fill(Duration::ZERO));
}

/// Seconds of `phase` on this thread since [`start_step`].
pub fn seconds(phase: Phase) -> f64 {
    CLOCK.with_borrow(|(_, totals)| totals[phase as usize].as_secs_f64())
}

/// Adds the phases that were entered to a step's metrics.
pub fn add_times(phases: &[Phase], metrics: &mut Metrics) {
    for phase in phases {
        metrics.set(phase.metric(), seconds(*phase));
    }
}

/// Sums up the durations of [`Phase`] spans, thread by thread. Part of every subscriber under which
/// runs are to have `time/` metrics; no log filter acts on it.
pub struct PhaseClock;

impl PhaseClock {
    /// The layer with its own filter: it sees phases and nothing else.
    pub fn layer<S>() -> Filtered<Self, FilterFn, S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Self.with_filter(filter_fn(|metadata| metadata.target() == PHASES))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for PhaseClock {
    fn on_enter(&self, _id: &Id, _context: Context<'_, S>) {
        CLOCK.with_borrow_mut(|(began, _)| *began = Some(Instant::now()));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let name = context.span(id).map_or("", |span| span.name());
        let Some(phase) = Phase::ALL.iter().find(|phase| phase.name() == name) else {
            return;
        };
        CLOCK.with_borrow_mut(|(began, totals)| {
            if let Some(began) = began.take() {
                totals[*phase as usize] += began.elapsed();
            }
        });
    }
}

/// Makes sure that phases are timed: where the program has set no subscriber, this thread gets one
/// that does nothing else, until the guard is dropped.
#[must_use]
pub fn ensure_clock() -> Option<tracing::subscriber::DefaultGuard> {
    let unset = tracing::dispatcher::get_default(|current| current.is::<NoSubscriber>());
    unset.then(|| tracing::subscriber::set_default(Registry::default().with(PhaseClock::layer())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_until_the_next_step() {
        let _clock = ensure_clock();
        start_step();
        let pause = Duration::from_millis(3);
        for _ in 0..2 {
            Phase::Optim.time(|| std::thread::sleep(pause));
        }
        assert!(seconds(Phase::Optim) >= 2.0 * pause.as_secs_f64());
        assert_eq!(seconds(Phase::Reduce), 0.0);
        start_step();
        assert_eq!(seconds(Phase::Optim), 0.0);
    }
}
