//! JSON Lines: one object a line; blank lines are passed over.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use super::files::Files;
use super::record::{Record, RowPlace, Visit, kind};
use crate::data::error::DataError;

pub(super) fn scan(files: &Files, file: u32, visit: &mut Visit) -> Result<(), DataError> {
    let mut reader = BufReader::with_capacity(1 << 20, &files.list[file as usize].file);
    let (mut offset, mut line, mut bytes) = (0, 0, Vec::new());
    loop {
        bytes.clear();
        let read = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| files.unreadable(file, source))?;
        if read == 0 {
            return Ok(());
        }
        line += 1;
        let start = offset;
        offset += read as u64;
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let place = RowPlace {
            offset: start,
            bytes: read as u32,
            line,
            file,
            length: 0,
        };
        visit((place, parse(&bytes)))?;
    }
}

/// One JSON object.
pub(super) fn parse(bytes: &[u8]) -> Result<Record, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    let row: Value = serde_json::from_str(text)
        .map_err(|error| format!("not JSON: {}", place_in_line(&error)))?;
    if !row.is_object() {
        return Err(format!("a row is a JSON object, this is {}", kind(&row)));
    }
    Ok(Record::of(row))
}

/// The parser's message with the column only: the line is the file's, not the parser's.
fn place_in_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let cut = message.find(" at line").unwrap_or(message.len());
    format!("{} at column {}", &message[..cut], error.column())
}
