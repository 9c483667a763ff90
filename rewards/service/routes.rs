//! What each path answers, and what is common to all: the token, body limits, log and counters.

use super::answer::{broken, few_enough, judge};
use super::parse::{self, Batch, CheckRow, Problem, Score};
use super::server::Inner;
use crate::wire::{ScoreRow, ScoredRow};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Score,
    ScoreBatch,
    Check,
    Health,
    Metrics,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/score" => Endpoint::Score,
            "/score_batch" => Endpoint::ScoreBatch,
            "/check" => Endpoint::Check,
            "/health" => Endpoint::Health,
            "/metrics" => Endpoint::Metrics,
            _ => return None,
        })
    }

    /// The path in logs and counters; what callers make up is not written there.
    fn name(this: Option<Self>) -> &'static str {
        match this {
            Some(Endpoint::Score) => "/score",
            Some(Endpoint::ScoreBatch) => "/score_batch",
            Some(Endpoint::Check) => "/check",
            Some(Endpoint::Health) => "/health",
            Some(Endpoint::Metrics) => "/metrics",
            None => "other",
        }
    }

    fn method(self) -> Method {
        match self {
            Endpoint::Health | Endpoint::Metrics => Method::GET,
            _ => Method::POST,
        }
    }

    /// What is said of it in the header `Allow`.
    fn allowed(self) -> &'static str {
        match self {
            Endpoint::Health | Endpoint::Metrics => "GET, HEAD",
            _ => "POST",
        }
    }
}

/// Answers every request.
pub(crate) async fn handle(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let started = Instant::now();
    let endpoint = Endpoint::of(request.uri().path());
    let method = request.method().clone();
    let mut items = 0;
    let response = match respond(&inner, endpoint, request, &mut items).await {
        Ok(response) => response,
        Err(problem) => refusal(problem),
    };
    let (path, status) = (Endpoint::name(endpoint), response.status().as_u16());
    inner.metrics.request(path, status);
    if !matches!(endpoint, Some(Endpoint::Health | Endpoint::Metrics)) {
        let ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let method = if method == Method::POST {
            "POST"
        } else {
            "other"
        };
        let fields =
            json!({"method": method, "path": path, "status": status, "items": items, "ms": ms});
        inner.log.info("request", fields);
    }
    response
}

async fn respond(
    inner: &Arc<Inner>,
    endpoint: Option<Endpoint>,
    request: Request,
    items: &mut usize,
) -> Result<Response, Problem> {
    let Some(endpoint) = endpoint else {
        let said = "path: one of /score, /score_batch, /check, /health, /metrics";
        return Err(Problem::new(StatusCode::NOT_FOUND, said));
    };
    // Of HEAD, the server itself leaves the body out.
    let asked = match request.method() {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    if asked != endpoint.method() {
        let (name, method) = (Endpoint::name(Some(endpoint)), endpoint.method());
        return Err(Problem {
            allow: Some(endpoint.allowed()),
            ..Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("method: {name} wants {method}"),
            )
        });
    }
    if endpoint == Endpoint::Health {
        inner.scorer.check().map_err(broken)?;
        return Ok(health(inner));
    }
    if inner
        .token
        .as_ref()
        .is_some_and(|token| !token.is_shown(request.headers()))
    {
        let said = "authorization: the header `Authorization: Bearer TOKEN` is missing or wrong";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, said));
    }
    if endpoint == Endpoint::Metrics {
        let mut text = inner.metrics.text(inner.queue.taken(), inner.queue.limit());
        if let Some(count) = inner.scorer.judge_count() {
            text += &super::metrics::judge_text(&count);
        }
        text += &super::metrics::encoder_text(&inner.scorer.encoder_counts());
        let kind = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        return Ok((kind, text).into_response());
    }
    let _place = inner
        .requests
        .take(1)
        .ok_or_else(|| Problem::busy("too many requests at the same time", 1))?;
    let (head, body) = request.into_parts();
    let coding = head.headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let said =
            "content-encoding: bodies are read as they are (send JSON that is not compressed)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, said));
    }
    let bytes = read(inner, &head.headers, body).await?;
    match endpoint {
        Endpoint::Score => score(inner, &bytes, items).await,
        Endpoint::ScoreBatch => score_batch(inner, &bytes, items).await,
        _ => check(inner, bytes, items).await,
    }
}

async fn read(
    inner: &Inner,
    headers: &HeaderMap,
    body: Body,
) -> Result<axum::body::Bytes, Problem> {
    let limit = inner.config.max_body_mib << 20;
    let too_large = || {
        let said = format!("body: at most {} MiB", inner.config.max_body_mib);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, said)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok());
    if announced
        .and_then(|n| n.parse::<u64>().ok())
        .is_some_and(|n| n > limit as u64)
    {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body: did not arrive in time",
        )),
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("body: {error}"),
        )),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Whether reading stopped at the limit.
fn is_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.to_string().contains("length limit") {
            return true;
        }
        source = inner.source();
    }
    false
}

async fn score(inner: &Arc<Inner>, bytes: &[u8], items: &mut usize) -> Result<Response, Problem> {
    let row = parse::json::<Score>(bytes)?.into_row()?;
    let jobs = parse::jobs(vec![row], &inner.images, &inner.default_task, false)?;
    *items = 1;
    let row = judge(inner, jobs, false).await?.remove(0);
    Ok(axum::Json(with_reward(row)).into_response())
}

async fn score_batch(
    inner: &Arc<Inner>,
    bytes: &[u8],
    items: &mut usize,
) -> Result<Response, Problem> {
    let rows = parse::json::<Batch<ScoreRow>>(bytes)?.items;
    let jobs = parse::jobs(rows, &inner.images, &inner.default_task, true)?;
    *items = jobs.len();
    let rows = judge(inner, jobs, true).await?;
    let rows: Vec<Value> = rows.into_iter().map(with_reward).collect();
    Ok(axum::Json(json!({"items": rows})).into_response())
}

/// References alone: null where one can serve its task, else what is wrong with it. Rendering them
/// takes a place in the queue and a thread of its own.
async fn check(
    inner: &Arc<Inner>,
    bytes: axum::body::Bytes,
    items: &mut usize,
) -> Result<Response, Problem> {
    let mut rows = parse::json::<Batch<CheckRow>>(&bytes)?.items;
    few_enough(inner, rows.len())?;
    for (index, row) in rows.iter_mut().enumerate() {
        parse::resolve(
            &mut row.reference,
            &inner.images,
            &parse::place(index, true),
        )?;
    }
    *items = rows.len();
    let places = inner
        .queue
        .take(rows.len())
        .ok_or_else(|| Problem::busy("the queue is full", 1))?;
    let worker = inner.clone();
    let work = move || {
        let _places = places;
        let said = |row: &CheckRow| {
            let task = row.task.as_deref().unwrap_or(&worker.default_task);
            worker.scorer.check_reference(task, &row.reference).err()
        };
        rows.iter().map(said).collect::<Vec<_>>()
    };
    let said = tokio::task::spawn_blocking(work).await;
    let said = said.map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(axum::Json(json!({"items": said})).into_response())
}

fn health(inner: &Inner) -> Response {
    let body = json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "queue": inner.queue.taken(),
        "tasks": inner.tasks,
    });
    axum::Json(body).into_response()
}

/// The row with its total once more under the name that other trainers look for.
fn with_reward(row: ScoredRow) -> Value {
    let total = row.total;
    let mut value = serde_json::to_value(row).unwrap_or_default();
    value["reward"] = json!(total);
    value
}

fn refusal(problem: Problem) -> Response {
    let mut response = (
        problem.status,
        axum::Json(json!({"error": problem.message})),
    )
        .into_response();
    let headers = response.headers_mut();
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(methods) = problem.allow {
        headers.insert(header::ALLOW, header::HeaderValue::from_static(methods));
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        headers.insert(
            header::WWW_AUTHENTICATE,
            header::HeaderValue::from_static("Bearer"),
        );
    }
    response
}
