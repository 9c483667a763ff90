//! Why a document has no normal form, and why one keeps its own coordinates.

use crate::failure::Failure;

/// Why a document has no normal form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NormaliseError {
    /// It cannot be drawn either.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// It shows a picture, by address or embedded.
    #[error("<image>: a picture inside the SVG is not vector code")]
    Picture,
    /// It shows HTML.
    #[error("<foreignObject>: what is inside is not SVG")]
    Foreign,
    /// It moves.
    #[error("animation: a still form would lose it")]
    Moving,
    /// It is stretched.
    #[error(
        "preserveAspectRatio=\"none\" with a viewBox that is not square: no uniform scale fits it"
    )]
    Stretched,
}

impl NormaliseError {
    /// A snake-case name, as reports carry.
    pub fn name(&self) -> &'static str {
        match self {
            NormaliseError::Failure(failure) => failure.reason.as_str(),
            NormaliseError::Picture => "embedded_picture",
            NormaliseError::Foreign => "foreign_object",
            NormaliseError::Moving => "animation",
            NormaliseError::Stretched => "stretched",
        }
    }
}

/// Why coordinates cannot be taken in.
#[derive(Debug)]
pub(super) struct Unsupported(pub String);

impl Unsupported {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Unsupported(why.into())
    }
}
