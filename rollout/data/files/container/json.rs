//! JSON objects as people's programs write them: what Python reads and the grammar does not know is mended.

use serde_json::Value;

use super::record::{Record, kind};

/// One JSON object.
pub(super) fn parse(bytes: &[u8]) -> Result<Record, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8: {error} (save the file as UTF-8)"))?;
    let row: Value = serde_json::from_str(text).or_else(|error| {
        // NaN and halves of characters are no fault of a row's.
        let mended = rewards::mended_json(bytes);
        let read = mended.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        read.ok_or_else(|| format!("not JSON: {}", place_in_line(&error)))
    })?;
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
