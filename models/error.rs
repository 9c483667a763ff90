//! What can be wrong with a model folder.

use std::path::PathBuf;

/// An error of a model folder, its configuration or its weights.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file is missing or cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's contents are not what its name promises.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration asks for something this crate does not build.
    #[error("{}: {key}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// Why it is refused and what would be accepted.
        reason: String,
    },
    /// A path is no folder to read a policy or a tokenizer from.
    #[error("{0}")]
    Folder(String),
    /// The checkpoint's tensors are not the network's.
    #[error("{}: {reason}", path.display())]
    Tensors {
        /// The folder.
        path: PathBuf,
        /// Missing, unknown or misshapen tensors by name.
        reason: String,
    },
    /// A picture cannot be read or does not fit the network.
    #[error("image: {0}")]
    Image(String),
    /// A text cannot be encoded or does not fit the network.
    #[error("text: {0}")]
    Text(String),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The C++ shim refused an operation.
    #[error("libtorch: {0}")]
    Shim(#[from] torch_ext::TorchError),
}

impl ModelError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn malformed(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Malformed {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn unsupported(
        path: impl Into<PathBuf>,
        key: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            path: path.into(),
            key: key.into(),
            reason: reason.into(),
        }
    }
}
