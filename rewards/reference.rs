//! The target of a prompt and a completion to be judged: plain data. What is rendered or measured
//! from a reference lives in the scorer's cache, keyed by content.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::io::{Error, Read};
use std::path::{Path, PathBuf};
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
    /// The SVG that the prompt shows, where the work begins from one: what a result is better or worse than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
}

/// A PNG or JPEG picture: a file, or its bytes. Written as a string: a path, or base64 (that of a PNG
/// starts with `iVBORw0KGgo`, its signature, optionally behind `data:image/png;base64,`; that of a
/// JPEG stands behind `data:image/jpeg;base64,`).
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    Path(PathBuf),
    Png(Arc<[u8]>),
}

/// Bytes of an image file.
const MAX_BYTES: u64 = 64 << 20;
const SIGNATURE: &str = "iVBORw0KGgo";
const DATA: &str = "data:image/png;base64,";
const JPEG: &str = "data:image/jpeg;base64,";

impl ImageSource {
    /// The file's bytes.
    ///
    /// # Errors
    /// A file that cannot be read, by its path, or of more than 64 MiB.
    pub fn read(&self) -> std::io::Result<Arc<[u8]>> {
        match self {
            ImageSource::Path(path) => bounded(path)
                .map(Arc::from)
                .map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display()))),
            ImageSource::Png(bytes) => Ok(bytes.clone()),
        }
    }
}

/// A device or a pipe may have no end.
fn bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(Error::other(format!("more than {MAX_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

impl Serialize for ImageSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ImageSource::Path(path) => path.serialize(serializer),
            ImageSource::Png(bytes) => {
                let prefix = if bytes.starts_with(&[0xff, 0xd8]) {
                    JPEG
                } else {
                    ""
                };
                serializer.serialize_str(&(prefix.to_owned() + &STANDARD.encode(bytes)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let jpeg = text.strip_prefix(JPEG);
        let code = jpeg.or(text.strip_prefix(DATA)).unwrap_or(&text);
        if jpeg.is_some() || code.starts_with(SIGNATURE) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_either_kind_are_read_back_from_their_text() {
        for bytes in [&b"\x89PNG\r\n\x1a\n...."[..], b"\xff\xd8\xff\xe0...."] {
            let source = ImageSource::Png(bytes.into());
            let text = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<ImageSource>(&text).unwrap(), source);
        }
        let path: ImageSource = serde_json::from_str("\"a/b.jpg\"").unwrap();
        assert_eq!(path, ImageSource::Path("a/b.jpg".into()));
    }
}
