//! Judging the rows of one request beside those of others.

use super::admission::CancelOnDrop;
use super::parse::{Problem, place};
use super::server::Inner;
use crate::error::RewardError;
use crate::score::{BAD_REFERENCE, could_not_draw};
use crate::scorer::{Order, ScoreJob};
use crate::wire::{SERVICE_DEADLINE, ScoredRow};
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
pub(crate) enum Form {
    /// One completion in slime's form.
    Single,
    /// Rows.
    Batch {
        /// The milliseconds that their caller waits, where it says so.
        deadline_ms: Option<u64>,
        last_try: bool,
    },
}

/// Judges `jobs` in order. A completion that was not judged in time is an invalid row; a request
/// that does not fit in the queue, an unknown task or a reference that cannot serve is a problem.
pub(crate) async fn judge(
    inner: &Arc<Inner>,
    jobs: Vec<(Value, ScoreJob)>,
    form: Form,
) -> Result<Vec<ScoredRow>, Problem> {
    let arrived = Instant::now();
    let of_batch = form != Form::Single;
    check(inner, &jobs, of_batch)?;
    let places = inner.room.items.take(jobs.len()).ok_or_else(|| {
        let (taken, limit) = (inner.room.items.taken(), inner.room.items.limit());
        let said = format!("the queue is full: {taken} of {limit} completions are waiting");
        Problem::busy(said, pause(inner, taken))
    })?;
    let (most, last_try) = match form {
        Form::Batch {
            deadline_ms,
            last_try,
        } => (deadline_ms.unwrap_or(u64::MAX), last_try),
        Form::Single => (u64::MAX, false),
    };
    let most = most.min(inner.config.deadline_ms);
    let deadline = arrived + Duration::from_millis(most);
    let ending = Duration::from_millis(ENDING_MS.min(most / 4));
    let judges = last_try.then(|| (deadline - ending).into_std());
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(cancelled.clone());
    let mut waiting = Vec::with_capacity(jobs.len());
    for ((id, job), place) in jobs.into_iter().zip(places) {
        let (sender, receiver) = oneshot::channel();
        waiting.push((id, job.task.clone(), job.step, receiver));
        let inner = inner.clone();
        inner.clone().scorer.order(Order {
            job,
            cancelled: Some(cancelled.clone()),
            judges,
            reply: Box::new(move |scored| {
                drop(place);
                // The request may have been answered without it; then it is no outcome.
                let wanted = !sender.is_closed();
                inner
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
                inner.metrics.late();
                let reason = format!("{SERVICE_DEADLINE}: not judged within {most} ms");
                inner.scorer.unjudged(&task, reason, step)
            }
        };
        if reward.reason.as_deref().is_some_and(could_not_draw) {
            return Err(short(reward.reason.unwrap_or_default()));
        }
        if let Some(failure) = reward
            .reason
            .as_deref()
            .and_then(|reason| reason.strip_prefix(BAD_REFERENCE)?.strip_prefix(": "))
        {
            let field = place(index, of_batch);
            return Err(Problem::field(format!(
                "{field}: reference does not render: {failure}"
            )));
        }
        rows.push(ScoredRow::new(id, reward));
    }
    // An encoder that failed makes numbers up; nobody must train on them.
    inner.scorer.check().map_err(broken)?;
    Ok(rows)
}

/// The service cannot judge any more.
pub(crate) fn broken(error: RewardError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// This machine lacks processes or threads just now, which says nothing of the row that needed them.
pub(crate) fn short(why: String) -> Problem {
    Problem {
        retry_after: Some(1),
        ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

/// Whether so many rows may come in one request.
pub(crate) fn few_enough(inner: &Inner, rows: usize) -> Result<(), Problem> {
    let most = inner.config.max_items.min(inner.config.queue);
    if rows > most {
        let said = format!("items: at most {most} in one request, got {rows}");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, said));
    }
    Ok(())
}

/// What can be said about rows before they are judged.
fn check(inner: &Inner, jobs: &[(Value, ScoreJob)], of_batch: bool) -> Result<(), Problem> {
    few_enough(inner, jobs.len())?;
    for (index, (_, job)) in jobs.iter().enumerate() {
        inner
            .scorer
            .check_fields(&job.task, &job.reference)
            .map_err(|said| match of_batch {
                true => Problem::field(format!("items.{index}.{said}")),
                false => Problem::field(format!("label.{}", said.trim_start_matches("reference."))),
            })?;
    }
    Ok(())
}

/// Seconds in which the queue should have moved on.
fn pause(inner: &Inner, taken: usize) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let each = inner.metrics.mean_seconds().unwrap_or(0.05).min(1.0);
    let seconds = taken as f64 * each / threads as f64;
    (seconds.ceil() as u64).clamp(1, 60)
}
