//! What stops scoring before it starts. A bad completion is never one of these.

/// A configuration that cannot be used, or a machine that cannot score.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// `key: rule, got value`.
    #[error("{0}")]
    Config(String),
    /// The renderer's worker program is missing.
    #[error("rendering: {0}")]
    Renderer(#[from] svg::Failure),
    /// The scoring service cannot be reached any more.
    #[error("{0}")]
    Service(String),
    /// Too many completions of the last steps could not be scored.
    #[error("{0}")]
    Unscored(String),
    /// No thread could be started.
    #[error("cannot start a scoring thread: {0}")]
    Thread(#[from] std::io::Error),
}
