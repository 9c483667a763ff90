//! Rows of a suite's files: JSON objects, one a line, each with its place; what is no row is said and left out.

use std::io::{BufRead, BufReader};
use std::path::Path;

use rollout::data::open_unpacked;
use serde_json::Value;

/// A row and where it stands.
#[derive(Debug, Clone)]
pub struct SuiteRow {
    /// An object.
    pub value: Value,
    /// `file:line`.
    pub place: String,
}

/// The rows of `path`; lines that are no JSON objects are said in `notes`.
///
/// # Errors
/// A file that is missing or cannot be read.
pub fn read_rows(path: &Path, notes: &mut Vec<String>) -> Result<Vec<SuiteRow>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = open_unpacked(path).map_err(|error| told(&error))?;
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line.map_err(|error| told(&error))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("{}:{}", path.display(), index + 1);
        match serde_json::from_slice(&line) {
            Ok(value @ Value::Object(_)) => rows.push(SuiteRow { value, place }),
            Ok(_) => notes.push(format!("{place}: must be a JSON object")),
            Err(error) => notes.push(format!("{place}: is not JSON: {error}")),
        }
    }
    Ok(rows)
}

/// An id as file names and look-ups spell it.
pub fn id_text(id: &Value) -> Option<String> {
    match id {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}
