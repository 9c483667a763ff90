//! A folder of SVG files: each is a record `{"id": stem, "prompt": the stem's words, "svg": text}`.

use serde_json::json;

use super::files::Files;
use super::record::{Record, RowPlace, Visit};
use crate::data::error::DataError;

pub(super) fn scan(files: &Files, file: u32, visit: &mut Visit) -> Result<(), DataError> {
    let place = RowPlace {
        offset: 0,
        bytes: files.list[file as usize].bytes.min(u64::from(u32::MAX)) as u32,
        line: file + 1,
        file,
        length: 0,
    };
    let record = read(files, place)?;
    visit((place, record))
}

pub(super) fn read(files: &Files, place: RowPlace) -> Result<Result<Record, String>, DataError> {
    let path = &files.list[place.file as usize].path;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let words: Vec<&str> = stem
        .split(['-', '_', ' '])
        .filter(|word| !word.is_empty())
        .collect();
    let record = match String::from_utf8(files.slice(place)?) {
        Ok(svg) => Ok(Record::of(
            json!({"id": stem, "prompt": words.join(" "), "svg": svg}),
        )),
        Err(error) => Err(format!("not UTF-8: {}", error.utf8_error())),
    };
    Ok(record)
}
