//! What can go wrong between a prompt and its completions.

/// An error of a data source, a template or an engine.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// A network or a tokenizer refused.
    #[error(transparent)]
    Model(#[from] models::ModelError),
    /// libtorch ended an operation, for lack of memory for instance.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The caller asked for no more, see `Engine::next_unless`.
    #[error("decoding was stopped")]
    Stopped,
    /// A server that samples is gone, or does not do what it is asked.
    #[error("rollout.endpoints: {0}")]
    Server(String),
    /// Samplers of this run are gone, or cannot be given weights.
    #[error("{0}")]
    Samplers(String),
    /// The user's data, configuration or template is wrong; the text names where.
    #[error("{0}")]
    Input(String),
}
