//! Files row by row as they are, for preparing data: no layout, no task, no index.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

use super::container::{BytesUse, Container, Reading, Record};
use super::layout::{FieldMap, Layout, NOTHING_ASKED, RowContext};
use crate::data::config::SourceConfig;
use crate::data::error::{At, DataError};
use crate::data::example::Example;
use crate::data::source::ABSENT;

/// The rows of one source's files, in order.
#[derive(Debug)]
pub struct Records {
    container: Container,
}

/// One row and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordRow {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub at: At,
    /// What the row is called if it has no id of its own.
    pub default_id: String,
    /// An object, or what is wrong there.
    pub value: Result<Value, String>,
    /// Columns of a table that JSON has no form for, which are not in the value.
    pub left_behind: Vec<String>,
    /// Bytes of all files up to here, as far as the format tells.
    pub position: u64,
}

impl Records {
    /// Opens the files of `source`; only its format and `path` matter. `key` names the path in errors.
    ///
    /// # Errors
    /// No such file, or none of the format's endings.
    pub fn open(source: &SourceConfig, key: &str) -> Result<Self, DataError> {
        let path = source.file().map(|file| file.path.as_path());
        let path = path.unwrap_or(Path::new(""));
        let container = Container::open(source, key, path)?;
        Ok(Self { container })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.container.files.bytes()
    }

    /// Hands over every row; whatever `visit` answers with ends the scan.
    ///
    /// # Errors
    /// A file that cannot be read; the visitor's own error in the inner result.
    pub fn scan<E>(
        &self,
        visit: &mut dyn FnMut(RecordRow) -> Result<(), E>,
    ) -> Result<Result<(), E>, DataError> {
        let mut stopped = None;
        // What is prepared are the drawings.
        let reading = Reading {
            column: Box::new(|_| true),
            bytes: BytesUse::LeftBehind,
        };
        let done = self.container.scan(&reading, &mut |(place, record)| {
            let nowhere = self.container.files.bad(place, String::new());
            let DataError::Row { path, at, .. } = nowhere else {
                return Ok(());
            };
            let row = RecordRow {
                path,
                at,
                default_id: self.container.files.default_id(place),
                left_behind: record
                    .as_ref()
                    .map_or_else(|_| Vec::new(), |record| record.left_behind.clone()),
                value: record.map(|record| record.value),
                position: self.container.files.position(place),
            };
            visit(row).map_err(|error| {
                stopped = Some(error);
                DataError::config("", "stopped")
            })
        });
        match (stopped, done) {
            (Some(error), _) => Ok(Err(error)),
            (None, done) => done.map(Ok),
        }
    }
}

/// Reads rows of pairs that lie in memory.
pub(crate) struct PairReader(Layout);

impl PairReader {
    /// For a task whose templates insert `inserted`.
    pub(crate) fn new(inserted: &[String]) -> Self {
        Self(Layout::of_pairs(inserted))
    }

    /// The example of row `at`; none where it is no pair, as the row itself says.
    pub(crate) fn read(&self, row: &Value, at: usize) -> Result<Option<Example>, String> {
        let context = RowContext {
            media: Path::new(""),
            default_id: at.to_string(),
        };
        match self.0.example(Record::of(row.clone()), &context) {
            Err(problem) if problem.starts_with(ABSENT) => Ok(None),
            read => read.map(Some),
        }
    }
}

/// What the format `jsonl` makes of a row without a map of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// An example.
    Yes,
    /// Nothing is asked in it: no prompt, draft or picture.
    NothingAsked,
    /// Not as it is, for this reason.
    No(String),
}

/// Whether the format `jsonl` reads `row` as it is.
pub fn readable(row: &Value) -> Readable {
    let record = Record::of(row.clone());
    let context = RowContext {
        media: Path::new(""),
        default_id: String::new(),
    };
    match FieldMap::new(&IndexMap::new(), &[]).example(record, &context) {
        Ok(_) => Readable::Yes,
        Err(problem) if problem == NOTHING_ASKED => Readable::NothingAsked,
        Err(problem) => Readable::No(problem),
    }
}
