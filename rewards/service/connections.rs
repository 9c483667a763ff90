//! Connections: so many at once, each with a time in which a request's head must come, so that callers who
//! say nothing keep nobody out.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The pause after a connection could not be taken, for lack of descriptors for instance.
const BREATH: Duration = Duration::from_millis(50);

/// Bounds of connections.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Open at the same time; one beyond waits to be taken.
    pub most: usize,
    /// How long a connection may be silent before a request's head is whole.
    pub idle: Duration,
}

/// Serves until `stop`, then takes no more and waits for the requests in flight.
pub(crate) async fn serve(
    listener: TcpListener,
    application: Router,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(bounds.most));
    let open = GracefulShutdown::new();
    let mut how = http1::Builder::new();
    how.timer(TokioTimer::new())
        .header_read_timeout(bounds.idle);
    let service = TowerToHyperService::new(application);
    let mut stop = pin!(stop);
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        // Small answers must not wait for the next packet.
        let _ = stream.set_nodelay(true);
        let connection = how.serve_connection(TokioIo::new(stream), service.clone());
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            // The caller has gone, or spoke something else.
            let _ = connection.await;
        });
    }
    drop(listener);
    open.shutdown().await;
}
