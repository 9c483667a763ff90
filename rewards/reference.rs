//! What a completion is compared with: plain data, neither rendered nor encoded here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a target image comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A file, read when it is first needed.
    Path(PathBuf),
    /// The encoded file itself.
    Bytes(Vec<u8>),
}

/// The target of one prompt; any part may be missing, the task says which it needs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// Source of the target SVG.
    pub svg: Option<String>,
    /// Target picture.
    pub image: Option<ImageSource>,
    /// Target text (a caption).
    pub text: Option<String>,
}
