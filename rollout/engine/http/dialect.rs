//! What every kind of server must be able to say: a completion, a greeting, an update of its weights.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Ask, ServerAnswer};
use super::config::WeightUpdate;
use super::endpoint::RolloutServer;
use crate::RolloutError;
use crate::engine::PartialCompletions;

/// What a server says of itself.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    /// Program and version.
    pub(super) program: String,
    /// The model's name there.
    pub(super) model: String,
    /// The most tokens of a prompt with its completion, where it says.
    pub(super) context: Option<usize>,
    /// Rows of its head, where it says.
    pub(super) vocabulary: Option<i64>,
    /// Whether it takes pictures beside token ids.
    pub(super) pictures: bool,
    /// How its weights can be updated, the best way first.
    pub(super) updates: Vec<WeightUpdate>,
}

/// Weights that lie in a folder, for servers to take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SharedWeights {
    /// How they get there.
    pub(super) way: WeightUpdate,
    /// Where they lie.
    pub(super) folder: PathBuf,
    /// Their files, absolute, in order; of an adapter its two.
    pub(super) files: Vec<PathBuf>,
    /// What they are called.
    pub(super) version: String,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Which weights of a server are to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Writer {
    /// Its model's own, by the model's name.
    Base(String),
    /// Those with an adapter, by the model's name and the adapter's.
    Adapter(String, String),
}

/// How one kind of server is spoken to.
pub(super) trait Dialect: Send + Sync {
    /// What the config calls it.
    fn name(&self) -> &'static str;

    /// What a server says of itself.
    ///
    /// # Errors
    /// One that does not answer, or is of another kind.
    fn greet(&self, server: &RolloutServer, model: Option<&str>) -> Result<Greeting, Refusal>;

    /// Where completions are asked for, and how.
    fn request(&self, ask: &Ask, writer: &Writer) -> (&'static str, Value);

    /// An answer to [`Self::request`].
    ///
    /// # Errors
    /// What it lacks.
    fn read(&self, answer: &Value) -> Result<ServerAnswer, String>;

    /// Has a server take weights; `partial` says what becomes of completions that may be under way there.
    ///
    /// # Errors
    /// What it refused.
    fn update(
        &self,
        server: &RolloutServer,
        weights: &SharedWeights,
        partial: Option<PartialCompletions>,
    ) -> Result<(), Refusal>;

    /// Halts what is under way at a server, or ends it.
    ///
    /// # Errors
    /// What it refused.
    fn pause(&self, server: &RolloutServer, partial: PartialCompletions) -> Result<(), Refusal>;

    /// Lets a server that was halted go on.
    ///
    /// # Errors
    /// What it refused.
    fn resume(&self, server: &RolloutServer) -> Result<(), Refusal>;

    /// Has a server forget an adapter.
    fn forget(&self, server: &RolloutServer, adapter: &str);

    /// Has a server end completions that nobody waits for, by their [`Ask::id`].
    fn abort(&self, server: &RolloutServer, ids: &[String]);

    /// Has a server free its memory, or take it again.
    ///
    /// # Errors
    /// What it refused.
    fn sleep(&self, server: &RolloutServer, asleep: bool) -> Result<(), Refusal>;

    /// Whether a server says that it has freed its memory, as a run leaves it that was killed meanwhile.
    fn is_asleep(&self, server: &RolloutServer) -> bool;
}

/// Why a server did not do what it was told.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// The address, and what went wrong.
    pub(super) message: String,
    /// Whether it may well do it later.
    pub(super) may_pass: bool,
}

impl Refusal {
    pub(super) fn of(server: &RolloutServer, what: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{}: {what}", server.address),
            may_pass: false,
        }
    }
}

impl From<rewards::CallError> for Refusal {
    fn from(error: rewards::CallError) -> Self {
        Self {
            may_pass: error.may_pass(),
            message: error.message,
        }
    }
}

/// A refusal as the run's end.
pub(super) fn ended(refusal: Refusal) -> RolloutError {
    match refusal.may_pass {
        true => RolloutError::Server(refusal.message),
        false => RolloutError::Input(format!("rollout.endpoints: {}", refusal.message)),
    }
}

/// The integers of a list.
pub(super) fn integers(value: &Value) -> Option<Vec<i64>> {
    value.as_array()?.iter().map(Value::as_i64).collect()
}
