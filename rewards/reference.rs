//! The target of a prompt: plain data. What is rendered or measured
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
    /// As code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub svg: Option<String>,
    /// As a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// As words: an answer, or the caption of what was to be drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The SVG that the prompt shows, where the work begins from one: what a result is better or worse than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
}

/// A PNG, JPEG or WebP picture: a file, or its bytes. Written as a string: a path, or base64 (that of a PNG
/// starts with `iVBORw0KGgo`, its signature, optionally behind `data:image/png;base64,`; that of a
/// JPEG stands behind `data:image/jpeg;base64,`, that of a WebP behind `data:image/webp;base64,`).
#[derive(Clone, Debug, PartialEq)]
pub enum ImageSource {
    /// A file, read when it is needed.
    Path(PathBuf),
    /// The bytes of a file of any of them.
    Png(Arc<[u8]>),
}

impl Reference {
    /// What was asked for, as image-text rewards and judges take it: the words, else the row's own `prompt`.
    pub fn wish<'a>(&'a self, prompt: &'a str) -> &'a str {
        let words = self.text.as_deref();
        words
            .filter(|words| !words.trim().is_empty())
            .unwrap_or(prompt)
    }
}

/// Bytes of an image file.
const MAX_BYTES: u64 = 64 << 20;
/// Pixels on a side of a picture.
pub(crate) const MAX_IMAGE_SIDE: u32 = 8192;
const SIGNATURE: &str = "iVBORw0KGgo";
const JPEG: &str = "data:image/jpeg;base64,";
const WEBP: &str = "data:image/webp;base64,";

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

/// Refuses by its header what is no picture, and one too large to be compared, so that a small file cannot ask
/// for much.
#[cfg(feature = "service")]
pub(crate) fn check_picture(bytes: &[u8]) -> Result<(), String> {
    let sides = svg::Raster::size_within(bytes, MAX_IMAGE_SIDE);
    sides.map(drop).map_err(|error| error.to_string())
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
                let prefix = match bytes.get(..4) {
                    Some([0xff, 0xd8, ..]) => JPEG,
                    Some(b"RIFF") => WEBP,
                    _ => "",
                };
                serializer.serialize_str(&(prefix.to_owned() + &STANDARD.encode(bytes)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let uri = text.strip_prefix("data:image/");
        let marked = uri.and_then(|uri| Some(uri.split_once(";base64,")?.1));
        let code = marked.unwrap_or(&text);
        if marked.is_some() || code.starts_with(SIGNATURE) {
            let bytes = STANDARD
                .decode(code)
                .map_err(|e| D::Error::custom(format!("base64 image: {e}")))?;
            return Ok(ImageSource::Png(bytes.into()));
        }
        Ok(ImageSource::Path(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG's header, which is all that is looked at, for sides of this many pixels.
    #[cfg(feature = "service")]
    fn header(width: u32, height: u32) -> Vec<u8> {
        let mut png = svg::Raster::filled(1, 1, [0; 4]).to_png().unwrap();
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&sum.to_be_bytes());
        png
    }

    #[cfg(feature = "service")]
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |sum: u32, &byte: &u8| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 * (sum & 1))
            })
        };
        !bytes.iter().fold(!0, step)
    }

    #[cfg(feature = "service")]
    #[test]
    fn a_picture_is_refused_by_its_header_where_scoring_would_refuse_it() {
        assert_eq!(
            check_picture(&header(MAX_IMAGE_SIDE, MAX_IMAGE_SIDE)),
            Ok(())
        );
        // A JPEG's frame of 9000 by 8 pixels.
        let jpeg = b"\xff\xd8\xff\xc0\0\x0b\x08\0\x08\x23\x28\x01\x01\x11\0\xff\xd9";
        for large in [header(MAX_IMAGE_SIDE + 1, 1), jpeg.to_vec()] {
            let said = check_picture(&large).unwrap_err();
            assert!(said.contains("at most 8192"), "{said}");
        }
        assert!(check_picture(b"\xff\xd8\xff").is_err() && check_picture(b"GIF89a").is_err());
    }

    #[test]
    fn bytes_of_either_kind_are_read_back_from_their_text() {
        let files = [
            &b"\x89PNG\r\n\x1a\n...."[..],
            b"\xff\xd8\xff\xe0....",
            b"RIFF....WEBP",
        ];
        for bytes in files {
            let source = ImageSource::Png(bytes.into());
            let text = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<ImageSource>(&text).unwrap(), source);
        }
        let path: ImageSource = serde_json::from_str("\"a/b.jpg\"").unwrap();
        assert_eq!(path, ImageSource::Path("a/b.jpg".into()));
    }
}
