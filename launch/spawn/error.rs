//! Why no rank was started.

/// Why no rank was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The flags contradict each other; exit status 2.
    #[error("{0}")]
    Usage(String),
    /// The machine refused.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// For `map_err`: what was tried.
pub(super) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> LaunchError {
    move |source| LaunchError::Io { what, source }
}
