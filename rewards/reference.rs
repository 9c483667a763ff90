//! The target of a prompt and a completion to be judged: plain data. What is rendered or measured
//! from a reference lives in the scorer's cache, keyed by content.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::path::PathBuf;
use std::sync::Arc;

/// What a completion should have been: an SVG, a picture, a text, or several of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub svg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A PNG picture: a file, or its bytes. Written as a string: a path, or base64 (which starts with
/// `iVBORw0KGgo`, the PNG signature, optionally behind `data:image/png;base64,`).
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    Path(PathBuf),
    Png(Arc<[u8]>),
}

const SIGNATURE: &str = "iVBORw0KGgo";
const DATA: &str = "data:image/png;base64,";

impl ImageSource {
    /// The PNG's bytes.
    pub fn read(&self) -> std::io::Result<Arc<[u8]>> {
        match self {
            ImageSource::Path(path) => Ok(std::fs::read(path)?.into()),
            ImageSource::Png(bytes) => Ok(bytes.clone()),
        }
    }
}

impl Serialize for ImageSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ImageSource::Path(path) => path.serialize(serializer),
            ImageSource::Png(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let code = text.strip_prefix(DATA).unwrap_or(&text);
        if code.starts_with(SIGNATURE) {
            let bytes = STANDARD
                .decode(code)
                .map_err(|e| D::Error::custom(format!("base64 image: {e}")))?;
            return Ok(ImageSource::Png(bytes.into()));
        }
        Ok(ImageSource::Path(text.into()))
    }
}

/// One completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub text: String,
    /// Whether it ended at the length limit rather than by itself.
    pub truncated: bool,
}
