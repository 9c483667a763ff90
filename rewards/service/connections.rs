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

/// The pause after a connection could not be taken, for lack of descriptors for instance.
const BREATH: Duration = Duration::from_millis(50);

/// Serves until `stop`, then takes no more and waits for the requests in flight. Requests carry their
/// connection's [`Peer`](super::peers::Peer) as an extension.
pub(crate) async fn serve(
    listener: TcpListener,
    application: Router,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let peers = Peers::new(bounds);
    let open = GracefulShutdown::new();
    let mut how = http1::Builder::new();
    how.timer(TokioTimer::new())
        .header_read_timeout(bounds.idle);
    let service = TowerToHyperService::new(application);
    let mut stop = pin!(stop);
    loop {
        let next = async {
            // Places are made for those who are there, not before.
            let accepted = listener.accept().await;
            (accepted, peers.enter().await)
        };
        let (accepted, peer) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        // Small answers must not wait for the next packet.
        let _ = stream.set_nodelay(true);
        let (peer, service) = (Arc::new(peer), service.clone());
        let own = peer.clone();
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
        let connection = open.watch(how.serve_connection(TokioIo::new(stream), answer));
        tokio::spawn(async move {
            tokio::select! {
                // The caller has gone, or spoke something else.
                _ = connection => {}
                () = peer.closed() => {}
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}
