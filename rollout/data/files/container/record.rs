//! One record of a file, and where it lies.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::data::error::DataError;

/// One record as its file holds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// A JSON object; the columns of a table row. Bytes stand in it as [`Record::bytes`] finds them.
    pub(crate) value: Value,
    /// Bytes of the file's columns that are no text.
    bytes: Vec<Arc<[u8]>>,
    /// Whether such bytes were left out, as the scan of a large file does.
    pub(crate) without_bytes: bool,
    /// Columns whose values JSON has no form for, where they are left behind.
    pub(crate) left_behind: Vec<String>,
}

/// The key of an object that stands for bytes; no file's own key begins so.
const BYTES: &str = "\u{0}bytes";

impl Record {
    pub(crate) fn of(value: Value) -> Self {
        Self {
            value,
            bytes: Vec::new(),
            without_bytes: false,
            left_behind: Vec::new(),
        }
    }

    /// A row of a table, whose bytes are still to come.
    pub(super) fn row(bytes: BytesUse) -> Self {
        Self {
            without_bytes: bytes == BytesUse::PassedOver,
            ..Self::of(Value::Object(Map::new()))
        }
    }

    /// Keeps bytes and gives what stands for them in the value.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Value {
        let number = self.bytes.len();
        self.bytes.push(bytes.into());
        Value::Object(Map::from_iter([(BYTES.to_owned(), number.into())]))
    }

    /// The bytes that `value`, a part of the record's, stands for.
    pub(crate) fn bytes(&self, value: &Value) -> Option<Arc<[u8]>> {
        let number = value.get(BYTES)?.as_u64()?;
        self.bytes.get(number as usize).cloned()
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    /// Byte offset; in a Parquet file the row group's number, in an Arrow file the batch's, in a COCO file the
    /// caption's.
    pub(crate) offset: u64,
    /// Bytes; in a Parquet file the row within its group, in an Arrow file within its batch.
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

/// The bytes of a file at a place.
pub(super) fn slice(file: &File, place: RowPlace) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; place.bytes as usize];
    file.read_exact_at(&mut bytes, place.offset)?;
    Ok(bytes)
}

/// An opened file of rows.
#[derive(Clone, Copy)]
pub(super) struct RowFile<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    /// Its number among the source's.
    pub(super) index: u32,
    pub(super) bytes: u64,
}

/// Why a scan ends before its end.
pub(super) enum Stop {
    Unreadable(io::Error),
    /// Who visits the records wants no more.
    Visitor(DataError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Self {
        Self::Visitor(error)
    }
}

/// What of a table's rows is read: nothing else is decoded.
pub(crate) struct Reading<'a> {
    /// Whether a column is used, by its name.
    pub(crate) column: Box<dyn Fn(&str) -> bool + 'a>,
    /// What becomes of bytes that are no text.
    pub(crate) bytes: BytesUse,
}

/// What becomes of bytes that are no text: they are most of a file that embeds pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BytesUse {
    /// They are kept; a value of a kind that is not read makes its row a bad one.
    Kept,
    /// They are passed over: null.
    PassedOver,
    /// Columns that hold any, or values of a kind that is not read, are left behind, by name.
    LeftBehind,
}

/// What a JSON value is, for people.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(map) if map.contains_key(BYTES) => "bytes that are no text",
        Value::Object(_) => "an object",
    }
}
