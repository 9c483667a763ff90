//! What the networks and the door before them share.

use std::path::Path;

use crate::ModelError;
use crate::image::ImageProcessor;

/// What stands for a whole sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// Its first token.
    Cls,
    /// The mean of its tokens.
    Mean,
}

/// Checks that a processor's pictures have the side that the network asks for.
pub(super) fn check_output(
    folder: &Path,
    processor: &ImageProcessor,
    side: usize,
) -> Result<(), ModelError> {
    match processor.output() {
        Some(size) if size == (side, side) => Ok(()),
        got => Err(ModelError::unsupported(
            folder.join("preprocessor_config.json"),
            "size",
            format!(
                "must give pictures of {side}x{side} pixels, config.json's image_size, got {got:?} (interpolating this network's positions is not supported)"
            ),
        )),
    }
}

/// Runs a network without gradients; a C++ error of libtorch comes back as one.
///
/// # Errors
/// `run`'s; what libtorch said where one of its operators failed.
pub fn guarded<T>(run: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    torch_ext::catch_torch(|| tch::no_grad(run))
        .map_err(|text| ModelError::Torch(tch::TchError::Torch(text)))?
}
