//! Pictures in rows, in every form in which published tables carry them: a path, a `file://` address, a data URI,
//! base64, bytes, an object of `bytes` and `path` with either missing; one of these, or a list.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};
use rewards::ImageSource;
use serde_json::Value;

use super::super::container::{Record, kind};

/// Keys of an object that may say where a picture is, in the order in which they are asked.
const WHERE: [&str; 5] = ["path", "url", "image", "image_url", "src"];
/// How base64 of PNG, JPEG and WebP begins.
const ENCODED: [&str; 3] = ["iVBORw0KGgo", "/9j/", "UklGR"];

/// The pictures that `value` of a row is, `key` naming it: none for null and empty text, one, or those of a list.
pub(super) fn pictures(
    record: &Record,
    value: &Value,
    (key, media): (&str, &Path),
) -> Result<Vec<ImageSource>, String> {
    let Value::Array(values) = value else {
        return Ok(picture(record, value, (key, media))?.into_iter().collect());
    };
    let of = |(at, value): (usize, &Value)| {
        let key = format!("{key}.{at}");
        picture(record, value, (&key, media))?
            .ok_or_else(|| format!("key `{key}` holds no picture: neither bytes nor a path"))
    };
    // In the scan of a large file bytes are not there to be seen.
    values
        .iter()
        .enumerate()
        .filter(|(_, value)| !record.without_bytes || !is_blank(value))
        .map(of)
        .collect()
}

/// The picture that `value` is; `None` where it holds none.
pub(super) fn picture(
    record: &Record,
    value: &Value,
    (key, media): (&str, &Path),
) -> Result<Option<ImageSource>, String> {
    if let Some(bytes) = record.bytes(value) {
        return Ok(Some(ImageSource::Png(bytes)).filter(|_| !is_empty(value, record)));
    }
    match value {
        Value::Null => Ok(None),
        Value::String(text) => {
            named(text, media).map_err(|problem| format!("key `{key}`: {problem}"))
        }
        Value::Object(map) => {
            if let Some(bytes) = map.get("bytes").filter(|bytes| !bytes.is_null()) {
                return match (record.bytes(bytes), bytes) {
                    (Some(bytes), _) => Ok(Some(ImageSource::Png(bytes))),
                    (None, Value::String(text)) => match decoded(text) {
                        Some(bytes) => Ok(Some(ImageSource::Png(bytes))),
                        None => Err(format!("key `{key}.bytes` is neither bytes nor base64")),
                    },
                    (None, other) => Err(format!("key `{key}.bytes` holds {}", kind(other))),
                };
            }
            let place = WHERE
                .iter()
                .find_map(|name| map.get(*name).filter(|at| !at.is_null()));
            match place {
                Some(place) => picture(record, place, (key, media)),
                None if ["bytes", "path"].iter().any(|name| map.contains_key(*name)) => Ok(None),
                None => Err(format!(
                    "key `{key}` must hold paths or pictures, holds an object without bytes and path"
                )),
            }
        }
        other => Err(format!(
            "key `{key}` must hold paths or pictures, holds {}",
            kind(other)
        )),
    }
}

fn is_empty(value: &Value, record: &Record) -> bool {
    record.bytes(value).is_some_and(|bytes| bytes.is_empty())
}

/// Whether nothing can be seen of a value in a scan.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(Value::is_null),
        _ => false,
    }
}

/// What a text names: a file, or a picture in the text itself.
fn named(text: &str, media: &Path) -> Result<Option<ImageSource>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(uri) = text.strip_prefix("data:") {
        let code = uri
            .split_once(',')
            .filter(|(head, _)| head.ends_with(";base64"));
        let bytes = code.and_then(|(_, code)| decoded(code));
        let bytes = bytes.ok_or("a data URI that is no base64")?;
        return Ok(Some(ImageSource::Png(bytes)));
    }
    if let Some(address) = text.strip_prefix("file://") {
        let path = address.strip_prefix("localhost").unwrap_or(address);
        return Ok(Some(ImageSource::Path(media.join(unescaped(path)))));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!(
            "a picture at {scheme}:// is not fetched: download it and name the file"
        ));
    }
    if ENCODED.iter().any(|begin| text.starts_with(begin))
        && let Some(bytes) = decoded(text)
    {
        return Ok(Some(ImageSource::Png(bytes)));
    }
    Ok(Some(ImageSource::Path(media.join(text))))
}

/// Base64, with or without the signs that fill it up, line ends among it.
fn decoded(code: &str) -> Option<Arc<[u8]>> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let lenient = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let code: String = code.split_ascii_whitespace().collect();
    let bytes = STANDARD
        .decode(&code)
        .or_else(|_| lenient.decode(&code))
        .ok()?;
    (!bytes.is_empty()).then(|| bytes.into())
}

/// A path with `%20` and the like as the bytes they stand for.
fn unescaped(path: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match (
            bytes[at],
            digit(bytes.get(at + 1)),
            digit(bytes.get(at + 2)),
        ) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Vec<ImageSource>, String> {
        let record = Record::of(json!({"images": value}));
        pictures(
            &record,
            &record.value["images"],
            ("images", Path::new("/m")),
        )
    }

    fn path(name: &str) -> ImageSource {
        ImageSource::Path(name.into())
    }

    #[test]
    fn every_form_of_a_picture_is_read() {
        let png = ImageSource::Png(b"\x89PNG\r\n\x1a\n"[..].into());
        let code = "iVBORw0KGgo=";
        for (value, expected) in [
            (json!(null), vec![]),
            (json!(""), vec![]),
            (json!([]), vec![]),
            (json!("a.png"), vec![path("/m/a.png")]),
            (
                json!(["a.png", "/b.png"]),
                vec![path("/m/a.png"), path("/b.png")],
            ),
            (json!("file:///x/a%20b.png"), vec![path("/x/a b.png")]),
            (
                json!(format!("data:image/png;base64,{code}")),
                vec![png.clone()],
            ),
            (json!("iVBORw0KGgo"), vec![png.clone()]),
            (
                json!({"bytes": null, "path": "a.png"}),
                vec![path("/m/a.png")],
            ),
            (json!({"path": "a.png"}), vec![path("/m/a.png")]),
            (json!({"bytes": code}), vec![png.clone()]),
            (
                json!([{"bytes": code, "path": null}, {"bytes": null, "path": "c.png"}]),
                vec![png.clone(), path("/m/c.png")],
            ),
            (json!({"bytes": null, "path": null}), vec![]),
            (
                json!({"url": "data:image/png;base64,iVBORw0KGgo"}),
                vec![png],
            ),
        ] {
            assert_eq!(read(value.clone()), Ok(expected), "{value}");
        }
        for (value, part) in [
            (json!([null]), "key `images.0` holds no picture"),
            (
                json!([{"bytes": null, "path": null}]),
                "key `images.0` holds no picture",
            ),
            (
                json!(3),
                "key `images` must hold paths or pictures, holds a number",
            ),
            (json!({"a": 1}), "without bytes and path"),
            (json!("https://x/a.png"), "not fetched: download it"),
            (json!("data:image/png,abc"), "no base64"),
            (json!({"bytes": "a b"}), "neither bytes nor base64"),
        ] {
            let said = read(value.clone()).unwrap_err();
            assert!(said.contains(part), "{value}: {said}");
        }
    }
}
