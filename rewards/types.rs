//! What goes into scoring and what comes out of it.

use crate::invalid::Invalid;
use crate::reference::Reference;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Counts the tokens of an SVG, for lengths in tokens.
pub type TokenCounter = Arc<dyn Fn(&str) -> usize + Send + Sync>;

/// One completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What was written.
    pub text: String,
    /// Whether it ended at the length limit rather than by itself.
    pub truncated: bool,
}

/// One completion to judge.
#[derive(Clone, Debug)]
pub struct ScoreJob {
    /// The caller's name for it; comes back with the result.
    pub key: u64,
    /// The row's own name, for rewards of the user's own.
    pub id: String,
    /// The task that says how.
    pub task: String,
    /// Training step, for weight schedules.
    pub step: u64,
    /// Whether the task's metrics are wanted as well, whatever the task says.
    pub measure: bool,
    /// What was asked for, in the user's words.
    pub prompt: Arc<str>,
    /// What the completion should have been.
    pub reference: Arc<Reference>,
    /// The completion.
    pub candidate: Candidate,
}

/// A finished judgement.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The job's.
    pub key: u64,
    /// What it earned.
    pub reward: Reward,
}

/// What a completion earned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// The number that training sees; none where the completion could not be scored.
    pub total: Option<f64>,
    /// Each reward by its name, clipped, not weighted, in the rubric's order; those that could not be had are left out.
    /// What a reward of the user's own names besides stands behind it, as `reward.name`.
    pub parts: IndexMap<String, f64>,
    /// Whether the completion has the asked shape and its SVG rendered.
    pub valid: bool,
    /// Why not.
    pub reason: Option<Invalid>,
    /// Milliseconds spent rendering the completion.
    pub render_ms: f64,
    /// The task's metrics by name, where they were measured.
    pub metrics: IndexMap<String, f64>,
    /// The rewards that could not be had, through no fault of the completion.
    pub unscored: Vec<String>,
}

impl Reward {
    /// Whether the renderer's deadline ended the drawing.
    pub fn deadline_hit(&self) -> bool {
        self.reason.as_ref().is_some_and(Invalid::is_deadline)
    }

    /// A valid one of which nothing is known yet but that.
    pub(crate) fn valid() -> Self {
        Reward {
            total: None,
            parts: IndexMap::new(),
            valid: true,
            reason: None,
            render_ms: 0.0,
            metrics: IndexMap::new(),
            unscored: Vec::new(),
        }
    }

    /// That of a completion which no task judged: nothing.
    pub(crate) fn none(reason: Invalid) -> Self {
        Reward {
            valid: false,
            reason: Some(reason),
            ..Reward::valid()
        }
    }
}
