//! What stops a run, and whether the user's input is to blame.

use std::path::PathBuf;

/// An error of a run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration, data, checkpoint or a flag is wrong; exit status 2.
    #[error("{0}")]
    Input(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A network's folder or libtorch.
    #[error(transparent)]
    Model(#[from] models::ModelError),
    /// The engine.
    #[error(transparent)]
    Rollout(rollout::RolloutError),
    /// A collective or an optimizer kernel.
    #[error(transparent)]
    Torch(#[from] torch_ext::TorchError),
    /// libtorch ended an operation of the learner, for lack of memory for instance.
    #[error("libtorch: {0}")]
    Learner(String),
    /// The scoring service is gone.
    #[error("{0}")]
    Service(String),
    /// Anything else that is nobody's input.
    #[error("{0}")]
    Other(String),
}

impl TrainError {
    /// For `map_err`: names the file of an I/O error.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Whether the user's input is to blame: exit status 2 instead of 1.
    pub fn is_input(&self) -> bool {
        use models::ModelError;
        match self {
            Self::Input(_) | Self::Rollout(rollout::RolloutError::Input(_)) => true,
            Self::Model(error) | Self::Rollout(rollout::RolloutError::Model(error)) => {
                !matches!(error, ModelError::Torch(_) | ModelError::Shim(_))
            }
            Self::Torch(torch_ext::TorchError::Refused { .. }) => true,
            _ => false,
        }
    }
}

impl TrainError {
    /// Whether the same command, started again, may well go on: exit status 75.
    pub fn is_mended_by_restart(&self) -> bool {
        use torch_ext::TorchError;
        matches!(
            self,
            Self::Service(_)
                | Self::Rollout(
                    rollout::RolloutError::Server(_) | rollout::RolloutError::Samplers(_)
                )
                | Self::Torch(
                    TorchError::Collective { .. }
                        | TorchError::NotJoined { .. }
                        | TorchError::Store { .. }
                        | TorchError::Uncalled { .. }
                )
        )
    }
}

impl From<rollout::RolloutError> for TrainError {
    fn from(error: rollout::RolloutError) -> Self {
        Self::Rollout(error)
    }
}

impl From<rollout::data::DataError> for TrainError {
    fn from(error: rollout::data::DataError) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<rewards::RewardError> for TrainError {
    fn from(error: rewards::RewardError) -> Self {
        match error {
            rewards::RewardError::Config(ref text) => Self::Input(text.clone()),
            rewards::RewardError::Service(_) => Self::Service(error.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}
