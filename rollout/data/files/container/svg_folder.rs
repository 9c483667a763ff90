//! A folder of SVG files, packed ones among them: each is a record
//! `{"id": stem, "prompt": the stem's words, "svg": text}`.

use std::io::{self, Read};
use std::path::Path;

use serde_json::json;

use super::record::Record;
use super::unpack::{open_unpacked, stem};

/// The drawing in a file.
pub(super) fn read(path: &Path) -> io::Result<Result<Record, String>> {
    let stem = stem(path);
    let words: Vec<&str> = stem
        .split(['-', '_', ' '])
        .filter(|word| !word.is_empty())
        .collect();
    let mut bytes = Vec::new();
    open_unpacked(path)?.read_to_end(&mut bytes)?;
    Ok(match String::from_utf8(bytes) {
        Ok(svg) => Ok(Record::of(
            json!({"id": stem, "prompt": words.join(" "), "svg": svg}),
        )),
        Err(error) => Err(format!("not UTF-8: {}", error.utf8_error())),
    })
}
