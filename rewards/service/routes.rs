//! What each path answers, and what is common to all: the token, places, log and counters.

use super::LOG;
use super::answer::{AnsweredRow, WireFormat, few_enough, judge, short};
use super::body::{drain_body, receive};
use super::parse::{self, ReferenceRow, RequestProblem, RowBatch, Score};
use super::state::ServiceState;
use crate::wire::ScoreRow;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// The paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Score,
    ScoreBatch,
    Check,
    Health,
    ServiceMetrics,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/score" => Endpoint::Score,
            "/score_batch" => Endpoint::ScoreBatch,
            "/check" => Endpoint::Check,
            "/health" => Endpoint::Health,
            "/metrics" => Endpoint::ServiceMetrics,
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
            Some(Endpoint::ServiceMetrics) => "/metrics",
            None => "other",
        }
    }

    fn method(self) -> Method {
        match self {
            Endpoint::Health | Endpoint::ServiceMetrics => Method::GET,
            _ => Method::POST,
        }
    }

    /// What is said of it in the header `Allow`.
    fn allowed(self) -> &'static str {
        match self {
            Endpoint::Health | Endpoint::ServiceMetrics => "GET, HEAD",
            _ => "POST",
        }
    }
}

/// Answers every request.
pub(crate) async fn handle(State(state): State<Arc<ServiceState>>, request: Request) -> Response {
    let started = Instant::now();
    let endpoint = Endpoint::of(request.uri().path());
    let (head, mut body) = request.into_parts();
    let method = head.method.clone();
    let mut items = 0;
    let response = match respond(&state, endpoint, (&head, &mut body), &mut items).await {
        Ok(response) => response,
        Err(problem) => refusal(problem),
    };
    if response.status() != StatusCode::REQUEST_TIMEOUT {
        drain_body(&state, &head.headers, body);
    }
    let (path, status) = (Endpoint::name(endpoint), response.status().as_u16());
    state.metrics.request(path, status);
    if !matches!(endpoint, Some(Endpoint::Health | Endpoint::ServiceMetrics)) {
        let ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let method = if method == Method::POST {
            "POST"
        } else {
            "other"
        };
        tracing::info!(target: LOG, event = "request", method, path, status, items, ms);
    }
    response
}

async fn respond(
    state: &Arc<ServiceState>,
    endpoint: Option<Endpoint>,
    (head, body): (&Parts, &mut Body),
    items: &mut usize,
) -> Result<Response, RequestProblem> {
    let Some(endpoint) = endpoint else {
        let said = "path: one of /score, /score_batch, /check, /health, /metrics";
        return Err(RequestProblem::new(StatusCode::NOT_FOUND, said));
    };
    // Of HEAD, the server itself leaves the body out.
    let asked = match &head.method {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    if asked != endpoint.method() {
        let (name, method) = (Endpoint::name(Some(endpoint)), endpoint.method());
        return Err(RequestProblem {
            allow: Some(endpoint.allowed()),
            ..RequestProblem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("method: {name} wants {method}"),
            )
        });
    }
    if endpoint == Endpoint::Health {
        return Ok(health(state));
    }
    if state
        .token
        .as_ref()
        .is_some_and(|token| !token.is_shown(&head.headers))
    {
        let said = "authorization: the header `Authorization: Bearer TOKEN` is missing or wrong";
        return Err(RequestProblem::new(StatusCode::UNAUTHORIZED, said));
    }
    if endpoint == Endpoint::ServiceMetrics {
        let mut text = state
            .metrics
            .text(state.admission.items.taken(), state.admission.items.limit());
        if let Some(count) = state.scorer.judge_count() {
            text += &super::metrics::judge_text(&count);
        }
        text += &super::metrics::encoder_text(&state.scorer.encoder_counts());
        let kind = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        return Ok((kind, text).into_response());
    }
    let bytes = receive(state, head, body).await?;
    let _permit = state
        .admission
        .requests
        .take(1)
        .ok_or_else(|| RequestProblem::busy("too many requests at the same time", 1))?;
    match endpoint {
        Endpoint::Score => score(state, &bytes, items).await,
        Endpoint::ScoreBatch => score_batch(state, &bytes, items).await,
        _ => check(state, &bytes, items).await,
    }
}

async fn score(
    state: &Arc<ServiceState>,
    bytes: &[u8],
    items: &mut usize,
) -> Result<Response, RequestProblem> {
    let row = parse::json::<Score>(bytes)?.into_row()?;
    let jobs = parse::jobs(vec![row], &state.images, &state.tasks.first, false)?;
    *items = 1;
    let row = judge(state, jobs, WireFormat::Single).await?.remove(0);
    Ok(axum::Json(with_reward(row)).into_response())
}

async fn score_batch(
    state: &Arc<ServiceState>,
    bytes: &[u8],
    items: &mut usize,
) -> Result<Response, RequestProblem> {
    let batch = parse::json::<RowBatch<ScoreRow>>(bytes)?;
    state.tasks.agree(&batch.tasks)?;
    let form = WireFormat::Batch {
        deadline_ms: batch.deadline_ms,
        last_try: batch.last_try,
    };
    let jobs = parse::jobs(batch.items, &state.images, &state.tasks.first, true)?;
    *items = jobs.len();
    let rows = judge(state, jobs, form).await?;
    let rows: Vec<Value> = rows.into_iter().map(with_reward).collect();
    Ok(axum::Json(json!({"items": rows})).into_response())
}

/// References alone: null where one can serve its task, else what is wrong with it. Rendering them
/// takes a place in the queue and a thread of its own.
async fn check(
    state: &Arc<ServiceState>,
    bytes: &[u8],
    items: &mut usize,
) -> Result<Response, RequestProblem> {
    let batch = parse::json::<RowBatch<ReferenceRow>>(bytes)?;
    state.tasks.agree(&batch.tasks)?;
    let mut rows = batch.items;
    few_enough(state, rows.len())?;
    let resolve = |row: &mut ReferenceRow| {
        let found = parse::resolve(&mut row.reference, &state.images, "reference");
        found.err().map(|problem| problem.message)
    };
    let lacking: Vec<_> = rows.iter_mut().map(resolve).collect();
    *items = rows.len();
    let permits = state
        .admission
        .items
        .take(rows.len())
        .ok_or_else(|| RequestProblem::busy("the queue is full", 1))?;
    let worker = state.clone();
    let work = move || {
        let _permits = permits;
        let said = |(row, lacking): (&ReferenceRow, Option<String>)| {
            let task = row.task.as_deref().unwrap_or(&worker.tasks.first);
            match lacking {
                Some(said) => Ok(Some(said)),
                None => match worker.scorer.check_reference(task, &row.reference) {
                    Err(fault) if fault.is_shortage() => Err(short(fault.to_string())),
                    checked => Ok(checked.err().map(|fault| fault.to_string())),
                },
            }
        };
        rows.iter()
            .zip(lacking)
            .map(said)
            .collect::<Result<Vec<_>, RequestProblem>>()
    };
    let said = tokio::task::spawn_blocking(work).await;
    let said =
        said.map_err(|e| RequestProblem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))??;
    Ok(axum::Json(json!({"items": said})).into_response())
}

fn health(state: &ServiceState) -> Response {
    let body = json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "queue": state.admission.items.taken(),
        "tasks": state.tasks.digests,
        "parts": state.tasks.parts,
        "deadline_ms": state.config.deadline_ms,
        "drawing_ms": state.scorer.drawing_ms(),
    });
    axum::Json(body).into_response()
}

/// The row with its number once more under the name that other trainers look for.
fn with_reward(answered: AnsweredRow) -> Value {
    let mut value = serde_json::to_value(answered.row).unwrap_or_default();
    value["reward"] = json!(answered.reward);
    value
}

fn refusal(problem: RequestProblem) -> Response {
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
