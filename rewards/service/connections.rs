//! Connections: so many at once, each with a time in which a request's head must come, so that callers who
//! say nothing keep nobody out.

use super::peers::{Bounds, Peers};
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};

/// The pause after a connection could not be taken, for lack of descriptors for instance.
const BREATH: Duration = Duration::from_millis(50);
/// At the end: how long those are taken in whom the system has accepted already, and how long requests may still
/// come on connections that are open.
const LATECOMERS: Duration = Duration::from_millis(20);
const LAST_CALL: Duration = Duration::from_millis(100);

/// Serves until `stop`, then takes no more and waits for the requests in flight, those included that were
/// sent and not read yet. Requests carry their connection's [`Peer`](super::peers::Peer) as an extension.
pub(crate) async fn serve(
    listener: TcpListener,
    application: Router,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let mut how = http1::Builder::new();
    how.timer(TokioTimer::new())
        .header_read_timeout(bounds.idle);
    let house = House {
        how,
        service: TowerToHyperService::new(application),
        peers: Peers::new(bounds),
        open: GracefulShutdown::new(),
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = house.take(&listener) => {}
            () = &mut stop => break,
        }
    }
    let until = Instant::now() + LATECOMERS;
    while timeout_at(until, house.take(&listener)).await.is_ok() {}
    drop(listener);
    tokio::time::sleep(LAST_CALL).await;
    house.open.shutdown().await;
}

/// Where connections are taken in.
struct House {
    how: http1::Builder,
    service: TowerToHyperService<Router>,
    peers: Arc<Peers>,
    open: GracefulShutdown,
}

impl House {
    /// Waits for one more connection and serves it in a task of its own.
    async fn take(&self, listener: &TcpListener) {
        let accepted = listener.accept().await;
        // Places are made for those who are there, not before.
        let peer = Arc::new(self.peers.enter().await);
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(BREATH).await;
            return;
        };
        // Small answers must not wait for the next packet.
        let _ = stream.set_nodelay(true);
        let (own, service) = (peer.clone(), self.service.clone());
        let answer = service_fn(move |mut request: Request<Incoming>| {
            let peer = own.clone();
            peer.works();
            request.extensions_mut().insert(peer.clone());
            let answer = service.call(request);
            async move {
                let answer = answer.await;
                peer.answered();
                answer
            }
        });
        let connection = self.how.serve_connection(TokioIo::new(stream), answer);
        let connection = self.open.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                // The caller has gone, or spoke something else.
                _ = connection => {}
                () = peer.closed() => {}
            }
        });
    }
}
