//! Values between commas, semicolons, tabs or bars with a header line; a field in quotes may hold them and line
//! ends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};

use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::{Map, Value};

use super::record::{Record, RowFile, RowPlace, Stop, Visit, slice};

/// What is taken for a delimiter where none is given, the first of which a header has most of.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// A file's header and what stands between its fields.
#[derive(Debug)]
pub(super) struct CsvHeader {
    names: ByteRecord,
    delimiter: u8,
}

impl CsvHeader {
    /// Reads the header of `file`; without a `delimiter` it is the sign that the header line has most of, a tab in
    /// files of `tabs`.
    pub(super) fn read(file: &File, delimiter: Option<char>, tabs: bool) -> io::Result<Self> {
        let given = delimiter.map(|sign| {
            u8::try_from(sign).map_err(|_| {
                let said = format!("delimiter {sign:?}: it must be a sign of one byte");
                io::Error::new(io::ErrorKind::InvalidInput, said)
            })
        });
        let delimiter = match (given.transpose()?, tabs) {
            (Some(sign), _) => sign,
            (None, true) => b'\t',
            (None, false) => most_frequent(file)?,
        };
        let mut source = file;
        source.seek(SeekFrom::Start(0))?;
        let mut reader = builder(delimiter).from_reader(BufReader::new(source));
        let names = reader.byte_headers()?.clone();
        source.seek(SeekFrom::Start(0))?;
        Ok(Self { names, delimiter })
    }
}

/// The sign that a header line has most of outside quotes; a comma where it has none.
fn most_frequent(file: &File) -> io::Result<u8> {
    let mut source = file;
    source.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(source).read_until(b'\n', &mut line)?;
    let mut counts = [0; DELIMITERS.len()];
    let mut quoted = false;
    for byte in line {
        quoted ^= byte == b'"';
        let which = DELIMITERS.iter().position(|sign| *sign == byte && !quoted);
        if let Some(which) = which {
            counts[which] += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    let first = counts.iter().position(|count| *count == most);
    Ok(DELIMITERS[first.unwrap_or(0)])
}

fn builder(delimiter: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter);
    builder
}

pub(super) fn scan(rows: RowFile, header: &CsvHeader, visit: &mut Visit) -> Result<(), Stop> {
    let mut source = rows.file;
    source.seek(SeekFrom::Start(0))?;
    let source = BufReader::with_capacity(1 << 20, source);
    let mut reader: Reader<_> = builder(header.delimiter).from_reader(source);
    reader.byte_headers().map_err(io::Error::from)?;
    let mut record = ByteRecord::new();
    loop {
        let at = reader.position().clone();
        let result = reader.read_byte_record(&mut record);
        let end = reader.position().byte();
        let place = RowPlace {
            offset: at.byte(),
            bytes: (end - at.byte()) as u32,
            line: record.position().map_or(at.line(), csv::Position::line) as u32,
            file: rows.index,
            length: 0,
        };
        match result {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let open =
                    end == rows.bytes && is_open(&slice(rows.file, place)?, header.delimiter);
                visit((
                    place,
                    if open {
                        Err(OPEN.to_owned())
                    } else {
                        row(&header.names, &record)
                    },
                ))?;
            }
            Err(error) if error.is_io_error() => return Err(io::Error::from(error).into()),
            Err(_) => {
                let of = header.names.len();
                let problem = format!("{} fields, the header has {of}", record.len());
                visit((place, Err(problem)))?;
            }
        }
    }
}

/// The record that `bytes` are.
pub(super) fn parse(header: &CsvHeader, bytes: &[u8]) -> Result<Record, String> {
    let mut reader = builder(header.delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut record = ByteRecord::new();
    reader
        .read_byte_record(&mut record)
        .map_err(|error| error.to_string())?;
    row(&header.names, &record)
}

/// What is wrong with a last record that took the rest of the file for its own.
const OPEN: &str = "a field in quotes that is not closed: all that follows is in it";

/// Whether a record ends within a field in quotes.
fn is_open(record: &[u8], delimiter: u8) -> bool {
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
        fresh = !quoted && (*byte == delimiter || matches!(byte, b'\n' | b'\r'));
    }
    quoted
}

fn row(header: &ByteRecord, record: &ByteRecord) -> Result<Record, String> {
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|error| format!("not UTF-8: {error} (save the file as UTF-8)"))
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
