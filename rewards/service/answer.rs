//! Judging the rows of one request beside those of others.

use super::admission::CancelOnDrop;
use super::parse::{RequestProblem, place};
use super::state::ServiceState;
use crate::invalid::Invalid;
use crate::request::ScoreRequest;
use crate::types::ScoreJob;
use crate::wire::ScoredRow;
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// What the end of a judgement may take behind its judges, milliseconds.
const ENDING_MS: u64 = 500;

/// How a request came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireFormat {
    /// One completion in slime's form.
    Single,
    /// Rows.
    Batch {
        /// The milliseconds that their caller waits, where it says so.
        deadline_ms: Option<u64>,
        last_try: bool,
    },
}

/// A row with the number that trainers find under `reward`: its total, or the failure value where it has none.
pub(crate) struct AnsweredRow {
    pub row: ScoredRow,
    pub reward: f64,
}

/// Judges `jobs` in order. A completion that was not judged in time is an invalid row; a request
/// that does not fit in the queue, an unknown task or a reference that cannot serve is a problem.
pub(crate) async fn judge(
    state: &Arc<ServiceState>,
    jobs: Vec<(Value, ScoreJob)>,
    form: WireFormat,
) -> Result<Vec<AnsweredRow>, RequestProblem> {
    let arrived = Instant::now();
    let of_batch = form != WireFormat::Single;
    check(state, &jobs, of_batch)?;
    let permits = state.admission.items.take(jobs.len()).ok_or_else(|| {
        let (taken, limit) = (state.admission.items.taken(), state.admission.items.limit());
        let said = format!("the queue is full: {taken} of {limit} completions are waiting");
        RequestProblem::busy(said, pause(state, taken))
    })?;
    let (most, last_try) = match form {
        WireFormat::Batch {
            deadline_ms,
            last_try,
        } => (deadline_ms.unwrap_or(u64::MAX), last_try),
        WireFormat::Single => (u64::MAX, false),
    };
    let most = most.min(state.config.deadline_ms);
    let deadline = arrived + Duration::from_millis(most);
    let ending = Duration::from_millis(ENDING_MS.min(most / 4));
    let judges = last_try.then(|| (deadline - ending).into_std());
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(cancelled.clone());
    let mut waiting = Vec::with_capacity(jobs.len());
    for ((id, job), permit) in jobs.into_iter().zip(permits) {
        let (sender, receiver) = oneshot::channel();
        waiting.push((id, job.task.clone(), job.step, receiver));
        let state = state.clone();
        state.clone().scorer.request(ScoreRequest {
            job,
            cancelled: Some(cancelled.clone()),
            judges,
            reply: Box::new(move |scored| {
                drop(permit);
                // The request may have been answered without it; then it is no outcome.
                let wanted = !sender.is_closed();
                state
                    .metrics
                    .judged(&scored.reward, arrived.elapsed(), wanted);
                let _ = sender.send(scored.reward);
            }),
        });
    }
    let mut rows = Vec::with_capacity(waiting.len());
    for (index, (id, task, step, receiver)) in waiting.into_iter().enumerate() {
        let reward = match timeout_at(deadline, receiver).await {
            Ok(Ok(reward)) => reward,
            _ => {
                state.metrics.late();
                state.scorer.unjudged(&task, Invalid::Deadline(most), step)
            }
        };
        if let Some(reason) = reward.reason.as_ref().filter(|reason| reason.is_shortage()) {
            return Err(short(reason.to_string()));
        }
        if let Some(Invalid::BadReference(failure)) = &reward.reason {
            let field = place(index, of_batch);
            return Err(RequestProblem::field(format!(
                "{field}: reference does not render: {failure}"
            )));
        }
        let failure = || state.scorer.failure_total(&task, step);
        rows.push(AnsweredRow {
            reward: reward.total.unwrap_or_else(failure),
            row: ScoredRow::new(id, reward),
        });
    }
    Ok(rows)
}

/// This machine lacks processes or threads just now, which says nothing of the row that needed them.
pub(crate) fn short(why: String) -> RequestProblem {
    RequestProblem {
        retry_after: Some(1),
        ..RequestProblem::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

/// Whether so many rows may come in one request.
pub(crate) fn few_enough(state: &ServiceState, rows: usize) -> Result<(), RequestProblem> {
    let most = state.config.max_items.min(state.config.queue);
    if rows > most {
        let said = format!("items: at most {most} in one request, got {rows}");
        return Err(RequestProblem::new(StatusCode::PAYLOAD_TOO_LARGE, said));
    }
    Ok(())
}

/// What can be said about rows before they are judged.
fn check(
    state: &ServiceState,
    jobs: &[(Value, ScoreJob)],
    of_batch: bool,
) -> Result<(), RequestProblem> {
    few_enough(state, jobs.len())?;
    for (index, (_, job)) in jobs.iter().enumerate() {
        state
            .scorer
            .check_fields(&job.task, &job.reference)
            .map_err(|fault| match of_batch {
                true => RequestProblem::field(format!("items.{index}.{fault}")),
                false => {
                    let said = fault.to_string();
                    RequestProblem::field(format!(
                        "label.{}",
                        said.trim_start_matches("reference.")
                    ))
                }
            })?;
    }
    Ok(())
}

/// Seconds in which the queue should have moved on.
fn pause(state: &ServiceState, taken: usize) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let each = state.metrics.mean_seconds().unwrap_or(0.05).min(1.0);
    let seconds = taken as f64 * each / threads as f64;
    (seconds.ceil() as u64).clamp(1, 60)
}
