//! One record of a file, and where it lies.

use std::sync::Arc;

use serde_json::Value;

use crate::data::error::DataError;

/// One record as its file holds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// A JSON object; the columns of a table row.
    pub(crate) value: Value,
    /// Pictures embedded in the file, by column.
    pub(crate) pictures: Vec<(String, Arc<[u8]>)>,
    /// Whether embedded pictures were left out, as a scan does.
    pub(crate) without_pictures: bool,
}

impl Record {
    pub(crate) fn of(value: Value) -> Self {
        Self {
            value,
            pictures: Vec::new(),
            without_pictures: false,
        }
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    /// Byte offset; in a Parquet file the row group's number, in a COCO file the caption's.
    pub(crate) offset: u64,
    /// Bytes; in a Parquet file the row within its group.
    pub(crate) bytes: u32,
    /// Line, or number of the row, from 1.
    pub(crate) line: u32,
    /// Which of the source's files.
    pub(crate) file: u32,
    /// Characters of the reference; filled in by who reads the record's meaning.
    pub(crate) length: u32,
}

/// What a scan hands over: a record and its place, or what is wrong there.
pub(crate) type Scanned = (RowPlace, Result<Record, String>);

/// Receives the records of a scan; an error ends it.
pub(crate) type Visit<'a> = dyn FnMut(Scanned) -> Result<(), DataError> + 'a;

/// What a JSON value is, for people.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
