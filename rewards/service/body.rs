//! A request's body: read within a limit and a time, and what a refused caller still sends thrown away.

use super::parse::RequestProblem;
use super::peers::Peer;
use super::state::ServiceState;
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use hyper::body::Body as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long, and by how many times the limit of a body, what follows a refusal is read and thrown away, so
/// that the caller can read the refusal before the connection closes.
const DRAIN: (Duration, usize) = (Duration::from_secs(10), 4);

/// The whole body.
pub(crate) async fn receive(
    state: &ServiceState,
    head: &Parts,
    body: &mut Body,
) -> Result<Vec<u8>, RequestProblem> {
    let coding = head.headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let said =
            "content-encoding: bodies are read as they are (send JSON that is not compressed)";
        return Err(RequestProblem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            said,
        ));
    }
    let peer = head.extensions.get::<Arc<Peer>>();
    if peer.is_some_and(|peer| !peer.sends_body()) {
        return Err(RequestProblem::busy(
            "too many requests at the same time",
            1,
        ));
    }
    let until = Instant::now() + Duration::from_millis(state.config.body_ms);
    let limit = state.config.max_body_mib << 20;
    let read = timeout_at(until, read(&head.headers, body, limit)).await;
    if let Some(peer) = peer {
        peer.works();
    }
    read.unwrap_or_else(|_| {
        let said = format!("body: did not arrive within {} ms", state.config.body_ms);
        Err(RequestProblem::new(StatusCode::REQUEST_TIMEOUT, said))
    })
}

async fn read(
    headers: &HeaderMap,
    body: &mut Body,
    limit: usize,
) -> Result<Vec<u8>, RequestProblem> {
    let too_large = || {
        let said = format!("body: at most {} MiB", limit >> 20);
        RequestProblem::new(StatusCode::PAYLOAD_TOO_LARGE, said)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|n| n.parse::<u64>().ok());
    if announced.is_some_and(|n| n > limit as u64) {
        return Err(too_large());
    }
    // What is announced takes no memory before it comes.
    let mut bytes = Vec::new();
    while let Some(part) = next(body).await {
        let part = part.map_err(|error| {
            RequestProblem::new(StatusCode::BAD_REQUEST, format!("body: {error}"))
        })?;
        if bytes.len() + part.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// Reads on for a while behind an answer that did not want the whole body.
pub(crate) fn drain_body(state: &ServiceState, headers: &HeaderMap, mut rest: Body) {
    // Who waits to be told to send will not send.
    if rest.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let (time, times) = DRAIN;
    let mut left = times.saturating_mul(state.config.max_body_mib << 20);
    tokio::spawn(timeout(time, async move {
        while let Some(Ok(part)) = next(&mut rest).await {
            match left.checked_sub(part.len()) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
    }));
}

/// The next bytes of a body; trailers are empty ones.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}
