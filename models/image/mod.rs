//! Pictures on their way into a network: decoded 8-bit sRGB, resized as Pillow does, cropped. What
//! one network's processor does with them lies in its own file.

mod carried;
mod encoder;
mod exif_orientation;
mod patches;
mod patchify;
mod picture;
mod placeholders;
mod processor;
mod prompt;
mod rgb8;
mod tiles;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use encoder::{CLIP, Centre, HALF, IMAGENET};
pub use encoder::{ImageProcessor, Resize};
pub use patches::Patches;
pub use patchify::Patchify;
pub use picture::ProcessedPicture;
pub use processor::Processor;
pub(crate) use processor::{TowerFamily, TowerInput};
pub use prompt::PromptImages;
pub use rgb8::Rgb8;
pub use tiles::Tiles;

/// How large pictures are shown to the policy; what is absent is the model's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageBounds {
    /// Qwen-VL: smaller pictures are enlarged to this area, in pixels; >= 1.
    pub min_pixels: Option<i64>,
    /// Qwen-VL: larger pictures are shrunk to this area, in pixels; >= min_pixels.
    pub max_pixels: Option<i64>,
    /// InternVL: most tiles of a picture; 1 shows it as a single tile.
    pub max_tiles: Option<i64>,
}
