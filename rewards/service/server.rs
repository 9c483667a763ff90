//! The service's life: listening, answering, and an end that answers what is in flight.

use super::admission::Admission;
use super::connections;
use super::metrics::ServiceMetrics;
use super::parse::Images;
use super::peers::Bounds;
use super::routes::handle;
use super::state::ServiceState;
use super::tasks::Tasks;
use super::token::Token;
use super::{LOG, ServiceConfig};
use crate::error::RewardError;
use crate::reference::check_picture;
use crate::scoring::{Scorer, TaskScoring};
use axum::Router;
use indexmap::IndexMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// What a service is made of.
pub struct ServiceSetup<'a> {
    /// Judges; its own threads do the work.
    pub scorer: Scorer,
    /// The tasks it judges; the first is that of rows which name none.
    pub tasks: &'a IndexMap<String, TaskScoring>,
    /// Its bounds and deadlines.
    pub config: ServiceConfig,
    /// What callers must show; none lets everyone in.
    pub token: Option<String>,
}

/// A scoring service that is ready to listen.
pub struct Service(Arc<ServiceState>);

impl Service {
    /// Reads the registered pictures.
    ///
    /// # Errors
    /// A picture that cannot be read or is too large; its key is named.
    pub fn new(setup: ServiceSetup<'_>) -> Result<Service, RewardError> {
        let mut images = Images::new();
        for (name, path) in &setup.config.images {
            let problem = |said: String| {
                let place = path.display();
                RewardError::Config(format!("rewards.service.images.{name}: {place}: {said}"))
            };
            let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
            check_picture(&bytes).map_err(problem)?;
            images.insert(name.clone(), bytes.into());
        }
        Ok(Service(Arc::new(ServiceState {
            tasks: Tasks::new(setup.tasks),
            images,
            token: setup.token.as_deref().map(Token::new),
            admission: Admission::new(&setup.config),
            metrics: ServiceMetrics::new(),
            scorer: setup.scorer,
            config: setup.config,
        })))
    }

    /// Answers on `listener` until SIGTERM or SIGINT; then takes no more, answers what is in flight
    /// within the grace, and returns. A second signal ends it at once.
    ///
    /// # Errors
    /// Whatever the system says about the socket.
    pub fn run(self, listener: std::net::TcpListener) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let done = runtime.block_on(serve(self.0.clone(), listener));
        // Threads that still check a reference are not waited for.
        runtime.shutdown_timeout(Duration::from_millis(100));
        done
    }
}

async fn serve(state: Arc<ServiceState>, listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut signals = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let address = listener.local_addr()?;
    let names: Vec<&String> = state.tasks.digests.keys().collect();
    let names = names.into_iter().cloned().collect::<Vec<_>>().join(", ");
    tracing::info!(target: LOG, event = "listening", address = %address, tasks = names);
    let (stop, grace) = (Arc::new(Notify::new()), state.config.grace_ms);
    let stopping = stop.clone();
    let application = Router::new().fallback(handle).with_state(state.clone());
    let bounds = Bounds {
        most: state
            .config
            .max_requests
            .saturating_mul(2)
            .clamp(64, 1 << 20),
        bodies: state.config.max_requests,
        idle: Duration::from_millis(state.config.idle_ms),
        patience: Duration::from_millis(state.config.patience_ms),
    };
    let server = connections::serve(listener, application, bounds, async move {
        stopping.notified().await;
    });
    let watch = async {
        let name = first(&mut signals).await;
        let waiting = state.admission.items.taken();
        tracing::info!(target: LOG, event = "stopping", signal = name, waiting);
        stop.notify_one();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(grace)) => "the grace ran out",
            name = first(&mut signals) => name,
        }
    };
    tokio::select! {
        () = server => {
            tracing::info!(target: LOG, event = "stopped", unanswered = 0);
            Ok(())
        }
        why = watch => {
            let unanswered = state.admission.requests.taken();
            tracing::error!(target: LOG, event = "stopped", unanswered, why);
            Ok(())
        }
    }
}

/// The name of the next signal.
async fn first((terminate, interrupt): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
