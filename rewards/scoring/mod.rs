//! Scoring: a task's rubric, one completion's judgement, and the threads that judge many.
//!
//! The way in is the [`Scorer`]. A [`ScoreJob`](crate::ScoreJob) is judged by its task ([`task`]) on a thread of
//! [`workers`]; what waits for encoders or judges is ended by the [`completer`].

mod active;
mod completer;
mod pending;
mod references;
pub(crate) mod rubric;
mod scorer;
mod submitted;
mod task;
mod task_scoring;
mod unscored_window;
mod workers;

pub use rubric::{Composition, Normalise, RubricConfig, TruncatedTotal, Unscored};
pub use scorer::Scorer;
pub use task_scoring::{MeasureWhen, TaskScoring};
