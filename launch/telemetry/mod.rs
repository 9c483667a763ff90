//! Where `tracing`'s events and spans go: lines for people, a JSON file per rank, a Chrome trace on
//! request, and the clock behind the `time/` metrics.
//!
//! `RUST_LOG` filters what is logged (the JSON files, and the console's lines from below the program);
//! no filter acts on metrics. Spans and events are made where things happen; nothing else prints.

mod console;
mod live;
mod service;
mod trace;

use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::CliFailure;
use console::ConsoleLayer;
pub use console::{LINES, TOLD, Verbosity};
use live::LiveBar;

/// A process of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunProcess {
    /// This rank.
    Rank(usize),
    /// This sampler.
    Sampler(usize),
}

impl RunProcess {
    /// What its files are called by.
    fn name(self) -> String {
        match self {
            Self::Rank(number) => format!("rank_{number}"),
            Self::Sampler(number) => format!("sampler_{number}"),
        }
    }
}

/// What a run's outputs are.
pub struct RunOutputs<'a> {
    /// The run folder, which exists.
    pub folder: &'a Path,
    /// Which process of the run this is.
    pub process: RunProcess,
    /// What the console shows.
    pub verbosity: Verbosity,
    /// A Chrome trace, if one is asked for.
    pub trace: Option<&'a Path>,
}

/// Keeps outputs open; what is buffered is written when it is dropped.
#[must_use]
pub struct Outputs {
    _trace: Option<trace::Guard>,
    live: Option<LiveBar>,
}

impl Drop for Outputs {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.clear();
        }
    }
}

/// Sends a run's events to the console, `train.log` (rank 0) and `logs/rank_N.jsonl` or `logs/sampler_N.jsonl`, its phases to the
/// metrics, and everything to the trace file.
///
/// # Errors
/// A file that cannot be opened, a `RUST_LOG` that cannot be read.
pub fn start_run(outputs: &RunOutputs) -> Result<Outputs, CliFailure> {
    let append = |path: &Path| trainer::files::open_log(path).map_err(CliFailure::from);
    let logs = outputs.folder.join("logs");
    trainer::files::make_folder(&logs)?;
    let file = append(&logs.join(format!("{}.jsonl", outputs.process.name())))?;
    let leader = outputs.process == RunProcess::Rank(0);
    let record = leader
        .then(|| append(&outputs.folder.join("train.log")))
        .transpose()?;
    let (trace, guard) = match outputs.trace {
        None => (None, None),
        Some(path) => {
            let (layer, guard) = trace::layer(path, &outputs.process.name())?;
            (Some(layer), Some(guard))
        }
    };
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        // A full disk must not fill the console as well.
        .log_internal_errors(false)
        .with_writer(Mutex::new(file))
        .with_filter(log_filter()?);
    let console = ConsoleLayer::new(outputs.verbosity, leader, record);
    let live = console.live();
    Registry::default()
        .with(trainer::telemetry::PhaseClock::layer())
        .with(json)
        .with(console.with_filter(log_filter()?.or(filter_fn(|event| event.target() == LINES))))
        .with(trace)
        .with(live.as_ref().map(LiveBar::layer))
        .try_init()
        .map_err(CliFailure::other)?;
    Ok(Outputs {
        _trace: guard,
        live,
    })
}

/// Sends the warnings of a command that keeps no log to standard error, as lines.
///
/// # Errors
/// A `RUST_LOG` that cannot be read.
pub fn start_command(verbosity: Verbosity) -> Result<(), CliFailure> {
    let console = ConsoleLayer::new(verbosity, true, None);
    Registry::default()
        .with(console.with_filter(log_filter()?))
        .try_init()
        .map_err(CliFailure::other)
}

/// Keeps the service's log open; what waits is written when it is dropped.
#[must_use]
pub struct ServiceLog {
    _guard: tracing_appender::non_blocking::WorkerGuard,
}

/// Sends the scoring service's events to standard error as JSON lines: failures alone when quiet.
///
/// # Errors
/// A `RUST_LOG` that cannot be read.
pub fn start_service(verbosity: Verbosity) -> Result<ServiceLog, CliFailure> {
    let (layer, guard) = service::layer(std::io::stderr());
    let most = match verbosity {
        Verbosity::Quiet => LevelFilter::ERROR,
        Verbosity::Normal | Verbosity::Verbose => LevelFilter::TRACE,
    };
    Registry::default()
        .with(layer.with_filter(log_filter()?.and(most)))
        .try_init()
        .map_err(CliFailure::other)?;
    Ok(ServiceLog { _guard: guard })
}

/// `RUST_LOG`, or what is worth a line: the program's own events, and warnings of others.
fn log_filter() -> Result<EnvFilter, CliFailure> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) => builder
            .parse(&text)
            .map_err(|error| CliFailure::input(format!("RUST_LOG: {error}: `{text}`"))),
        // What the drawing library makes of a completion's attributes is no event of a run.
        Err(_) => Ok(builder.parse_lossy("info,usvg=off,resvg=off")),
    }
}
