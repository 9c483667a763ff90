//! Parquet tables: text, whole numbers and booleans by column, and pictures as the `datasets` library
//! stores them (a struct of `bytes` and `path`). Lists and deeper structs are left out.
//!
//! A row is read by skipping to it in each column chunk: pages before it are passed over by their
//! headers, so one draw decompresses one page a column.

use std::sync::Arc;

use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Map, Value};

use super::files::{DataFile, Files};
use super::record::{Record, RowPlace, Visit};
use crate::data::error::DataError;

/// Rows decoded at once during a scan.
const BATCH: usize = 256;

pub(super) fn scan(files: &Files, file: u32, visit: &mut Visit) -> Result<(), DataError> {
    let reader = open(&files.list[file as usize])
        .map_err(|error| files.unreadable(file, std::io::Error::other(error)))?;
    let mut number = 0;
    for group in 0..reader.num_row_groups() {
        let unreadable = |error: ParquetError| {
            let error = format!("row group {group}: {error}");
            files.unreadable(file, std::io::Error::other(error))
        };
        let chunk = reader.get_row_group(group).map_err(unreadable)?;
        let rows = chunk.metadata().num_rows() as usize;
        // Pictures are not decoded during a scan: their bytes are most of the file.
        let mut columns = Columns::of(chunk.as_ref(), true).map_err(unreadable)?;
        let mut row = 0;
        while row < rows {
            let records = columns.next(BATCH.min(rows - row)).map_err(unreadable)?;
            if records.is_empty() {
                return Err(unreadable(ParquetError::EOF("rows are missing".into())));
            }
            for record in records {
                number += 1;
                let place = RowPlace {
                    offset: group as u64,
                    bytes: row as u32,
                    line: number,
                    file,
                    length: 0,
                };
                visit((place, record))?;
                row += 1;
            }
        }
    }
    Ok(())
}

pub(super) fn read(files: &Files, place: RowPlace) -> Result<Result<Record, String>, DataError> {
    let one = || {
        let reader = open(&files.list[place.file as usize])?;
        let chunk = reader.get_row_group(place.offset as usize)?;
        let mut columns = Columns::of(chunk.as_ref(), false)?;
        columns.skip(place.bytes as usize)?;
        let mut records = columns.next(1)?;
        records
            .pop()
            .ok_or_else(|| ParquetError::EOF("the row is not there any more".into()))
    };
    one().map_err(|error| files.bad(place, error.to_string()))
}

fn open(file: &DataFile) -> Result<SerializedFileReader<std::fs::File>, ParquetError> {
    SerializedFileReader::new(std::fs::File::open(&file.path)?)
}

/// The columns of one row group that can be read.
struct Columns {
    columns: Vec<Column>,
    without_pictures: bool,
}

struct Column {
    /// Path of the leaf, joined by dots; without `.bytes` for a picture.
    name: String,
    reader: ColumnReader,
    /// Definition level at which a value is there.
    defined: i16,
    is_picture: bool,
}

impl Columns {
    fn of(group: &dyn RowGroupReader, without_pictures: bool) -> Result<Self, ParquetError> {
        let mut columns = Vec::new();
        for (index, chunk) in group.metadata().columns().iter().enumerate() {
            let leaf: &ColumnDescriptor = chunk.column_descr();
            let path = leaf.path().string();
            let picture = path.strip_suffix(".bytes");
            let skipped = leaf.max_rep_level() > 0
                || (picture.is_some() && without_pictures)
                || !matches!(
                    leaf.physical_type(),
                    Type::BYTE_ARRAY | Type::INT32 | Type::INT64 | Type::BOOLEAN
                );
            if skipped {
                continue;
            }
            columns.push(Column {
                name: picture.unwrap_or(&path).to_owned(),
                reader: group.get_column_reader(index)?,
                defined: leaf.max_def_level(),
                is_picture: picture.is_some(),
            });
        }
        Ok(Self {
            columns,
            without_pictures,
        })
    }

    fn skip(&mut self, rows: usize) -> Result<(), ParquetError> {
        for column in &mut self.columns {
            match &mut column.reader {
                ColumnReader::ByteArrayColumnReader(reader) => reader.skip_records(rows)?,
                ColumnReader::Int32ColumnReader(reader) => reader.skip_records(rows)?,
                ColumnReader::Int64ColumnReader(reader) => reader.skip_records(rows)?,
                ColumnReader::BoolColumnReader(reader) => reader.skip_records(rows)?,
                _ => 0,
            };
        }
        Ok(())
    }

    /// The next `count` rows, fewer at the group's end; a text that is not UTF-8 is a bad row.
    fn next(&mut self, count: usize) -> Result<Vec<Result<Record, String>>, ParquetError> {
        let mut rows: Vec<Result<Record, String>> = Vec::new();
        for column in &mut self.columns {
            let cells = column.cells(count)?;
            if rows.is_empty() {
                let empty = Record {
                    without_pictures: self.without_pictures,
                    ..Record::of(Value::Object(Map::new()))
                };
                rows.extend(cells.iter().map(|_| Ok(empty.clone())));
            }
            for (row, cell) in rows.iter_mut().zip(cells) {
                let Ok(record) = row else { continue };
                match (cell, &mut record.value) {
                    (Cell::Picture(bytes), _) => {
                        record.pictures.push((column.name.clone(), bytes));
                    }
                    (Cell::Value(value), Value::Object(map)) => {
                        map.insert(column.name.clone(), value);
                    }
                    (Cell::Bad(problem), _) => {
                        *row = Err(format!("column `{}`: {problem}", column.name));
                    }
                    _ => {}
                }
            }
        }
        Ok(rows)
    }
}

enum Cell {
    Missing,
    Value(Value),
    Picture(Arc<[u8]>),
    Bad(String),
}

impl Column {
    fn cells(&mut self, count: usize) -> Result<Vec<Cell>, ParquetError> {
        let mut levels = Vec::new();
        let mut cells = Vec::new();
        let is_picture = self.is_picture;
        macro_rules! read {
            ($reader:expr, $cell:expr) => {{
                let mut values = Vec::new();
                let mut read = 0;
                while read < count {
                    let (records, ..) =
                        $reader.read_records(count - read, Some(&mut levels), None, &mut values)?;
                    if records == 0 {
                        break;
                    }
                    read += records;
                }
                let mut values = values.into_iter();
                for row in 0..read {
                    let there = self.defined == 0 || levels.get(row) == Some(&self.defined);
                    let value = if there { values.next() } else { None };
                    cells.push(value.map_or(Cell::Missing, $cell));
                }
            }};
        }
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                read!(reader, |value: parquet::data_type::ByteArray| {
                    if is_picture {
                        return Cell::Picture(value.data().into());
                    }
                    match std::str::from_utf8(value.data()) {
                        Ok(text) => Cell::Value(Value::String(text.to_owned())),
                        Err(error) => Cell::Bad(format!("not UTF-8: {error}")),
                    }
                });
            }
            ColumnReader::Int32ColumnReader(reader) => {
                read!(reader, |value: i32| Cell::Value(value.into()));
            }
            ColumnReader::Int64ColumnReader(reader) => {
                read!(reader, |value: i64| Cell::Value(value.into()));
            }
            ColumnReader::BoolColumnReader(reader) => {
                read!(reader, |value: bool| Cell::Value(value.into()));
            }
            _ => {}
        }
        Ok(cells)
    }
}
