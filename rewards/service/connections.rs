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
    let acceptor = Acceptor {
        how,
        service: TowerToHyperService::new(application),
        peers: Peers::new(bounds),
        open: GracefulShutdown::new(),
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = acceptor.take(&listener) => {}
            () = &mut stop => break,
        }
    }
    let until = Instant::now() + LATECOMERS;
    while timeout_at(until, acceptor.take(&listener)).await.is_ok() {}
    drop(listener);
    tokio::time::sleep(LAST_CALL).await;
    acceptor.open.shutdown().await;
}

/// Where connections are taken in.
struct Acceptor {
    how: http1::Builder,
    service: TowerToHyperService<Router>,
    peers: Arc<Peers>,
    open: GracefulShutdown,
}

impl Acceptor {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// Half of them, on average, would find the end before them.
    #[test]
    fn whom_the_system_took_in_before_the_end_is_answered() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let callers: Vec<TcpStream> = (0..32)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                let head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                stream.write_all(head).unwrap();
                stream
            })
            .collect();
        let second = Duration::from_secs(1);
        let bounds = Bounds {
            most: 64,
            bodies: 64,
            idle: 60 * second,
            patience: second,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            let application = Router::new().fallback(|| async { "here" });
            serve(listener, application, bounds, std::future::ready(())).await;
        });
        for mut caller in callers {
            let mut answer = String::new();
            caller.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("here"), "{answer:?}");
        }
    }
}
