//! Comma-separated values with a header line; a field in quotes may hold commas and line ends.

use std::io::BufReader;

use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::{Map, Value};

use super::files::Files;
use super::record::{Record, RowPlace, Visit};
use crate::data::error::DataError;

pub(super) fn scan(files: &Files, file: u32, visit: &mut Visit) -> Result<(), DataError> {
    let mut reader = Reader::from_reader(BufReader::with_capacity(
        1 << 20,
        &files.list[file as usize].file,
    ));
    let unreadable = |error: csv::Error| files.unreadable(file, error.into());
    let header = reader.byte_headers().map_err(unreadable)?.clone();
    let length = files.list[file as usize].file.metadata();
    let length = length
        .map_err(|source| files.unreadable(file, source))?
        .len();
    let mut record = ByteRecord::new();
    loop {
        let at = reader.position().clone();
        let result = reader.read_byte_record(&mut record);
        let end = reader.position().byte();
        let place = RowPlace {
            offset: at.byte(),
            bytes: (end - at.byte()) as u32,
            line: record.position().map_or(at.line(), csv::Position::line) as u32,
            file,
            length: 0,
        };
        match result {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let open = end == length && is_open(&files.slice(place)?);
                visit((
                    place,
                    if open {
                        Err(OPEN.to_owned())
                    } else {
                        row(&header, &record)
                    },
                ))?;
            }
            Err(error) if error.is_io_error() => return Err(unreadable(error)),
            Err(_) => {
                let problem = format!("{} fields, the header has {}", record.len(), header.len());
                visit((place, Err(problem)))?;
            }
        }
    }
}

pub(super) fn read(files: &Files, place: RowPlace) -> Result<Result<Record, String>, DataError> {
    let unreadable = |error: csv::Error| files.unreadable(place.file, error.into());
    let file = &files.list[place.file as usize];
    // A handle of its own: places of a shared one would race.
    let fresh =
        std::fs::File::open(&file.path).map_err(|source| files.unreadable(place.file, source))?;
    let header = Reader::from_reader(BufReader::new(fresh))
        .byte_headers()
        .map_err(unreadable)?
        .clone();
    let bytes = files.slice(place)?;
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes.as_slice());
    let mut record = ByteRecord::new();
    reader.read_byte_record(&mut record).map_err(unreadable)?;
    Ok(row(&header, &record))
}

/// What is wrong with a last record that took the rest of the file for its own.
const OPEN: &str = "a field in quotes that is not closed: all that follows is in it";

/// Whether a record ends within a field in quotes.
fn is_open(record: &[u8]) -> bool {
    let (mut quoted, mut fresh) = (false, true);
    let mut bytes = record.iter().peekable();
    while let Some(byte) = bytes.next() {
        match (quoted, byte) {
            // Twice stands for the sign itself.
            (true, b'"') if bytes.peek() == Some(&&b'"') => drop(bytes.next()),
            (true, b'"') => quoted = false,
            (false, b'"') if fresh => quoted = true,
            _ => {}
        }
        fresh = !quoted && matches!(byte, b',' | b'\n' | b'\r');
    }
    quoted
}

fn row(header: &ByteRecord, record: &ByteRecord) -> Result<Record, String> {
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|error| format!("not UTF-8: {error}"))
    };
    let mut map = Map::new();
    for (name, field) in header.iter().zip(record) {
        let name = name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name);
        // An empty cell is a missing value: CSV has no null.
        if !field.is_empty() {
            map.insert(text(name)?, Value::String(text(field)?));
        }
    }
    Ok(Record::of(Value::Object(map)))
}
