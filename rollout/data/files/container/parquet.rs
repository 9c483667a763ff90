//! Parquet tables. A row is read by skipping to it in each column chunk: pages before it are passed over by their
//! headers, so one draw decompresses one page a column. What no field uses is not decoded.

use std::fs::File;
use std::io;
use std::path::Path;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{LogicalType, Type};
use parquet::errors::ParquetError;

use super::record::{BytesUse, Reading, Record, RowFile, RowPlace, Stop, Visit};
use super::table::record;

/// Rows decoded at once during a scan.
const BATCH: usize = 256;

/// What a file says of its columns and row groups.
#[derive(Debug)]
pub(super) struct ParquetTable {
    metadata: ArrowReaderMetadata,
}

impl ParquetTable {
    pub(super) fn open(file: &File) -> io::Result<Self> {
        // The writer's own types would bring dictionaries and views for what is plain text here.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(file, options).map_err(in_words)?;
        Ok(Self { metadata })
    }

    /// The names of the columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        let fields = self.metadata.schema().fields().iter();
        fields.map(|field| field.name().as_str())
    }

    /// A reader of the used columns. The handle is its own: places of a shared one would race.
    fn reader(&self, file: File, reading: &Reading) -> ParquetRecordBatchReaderBuilder<File> {
        let schema = self.metadata.parquet_schema();
        let used = |leaf: &usize| {
            let column = schema.column(*leaf);
            let root = column.path().parts().first();
            let text = matches!(
                column.logical_type_ref(),
                Some(LogicalType::String | LogicalType::Json | LogicalType::Enum)
            );
            // The part of a column that holds bytes is no text; a column of bytes alone may be.
            let within = column.path().parts().len() > 1;
            let bytes = column.physical_type() == Type::BYTE_ARRAY && !text && within;
            root.is_some_and(|root| (reading.column)(root))
                && (reading.bytes != BytesUse::PassedOver || !bytes)
        };
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(used).collect();
        let mask = ProjectionMask::leaves(schema, leaves);
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask)
            .with_batch_size(BATCH)
    }
}

pub(super) fn scan(
    rows: RowFile,
    table: &ParquetTable,
    reading: &Reading,
    visit: &mut Visit,
) -> Result<(), Stop> {
    let mut number = 0;
    for group in 0..table.metadata.metadata().num_row_groups() {
        let broken = |error: String| io::Error::other(format!("row group {group}: {error}"));
        let reader = table
            .reader(File::open(rows.path)?, reading)
            .with_row_groups(vec![group])
            .build()
            .map_err(|error| broken(in_words(error).to_string()))?;
        let mut row = 0;
        for batch in reader {
            let batch = batch.map_err(|error| broken(error.to_string()))?;
            for at in 0..batch.num_rows() {
                number += 1;
                let place = RowPlace {
                    offset: group as u64,
                    bytes: row,
                    line: number,
                    file: rows.index,
                    length: 0,
                };
                visit((place, record(&batch, at, reading)))?;
                row += 1;
            }
        }
        let all = table.metadata.metadata().row_group(group).num_rows();
        if i64::from(row) < all {
            return Err(broken(format!("{row} of {all} rows are there")).into());
        }
    }
    Ok(())
}

/// The row at a place of the file at `path`.
pub(super) fn read(
    path: &Path,
    place: RowPlace,
    table: &ParquetTable,
    reading: &Reading,
) -> Result<Record, String> {
    let own = File::open(path).map_err(|error| error.to_string())?;
    let mut reader = table
        .reader(own, reading)
        .with_row_groups(vec![place.offset as usize])
        .with_offset(place.bytes as usize)
        .with_limit(1)
        .build()
        .map_err(|error| in_words(error).to_string())?;
    match reader.next() {
        Some(Ok(batch)) if batch.num_rows() > 0 => record(&batch, 0, reading),
        Some(Err(error)) => Err(error.to_string()),
        _ => Err("the row is not there any more".into()),
    }
}

/// The reader's error with what to do about it.
fn in_words(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(source) => io::Error::other(source),
        },
        ParquetError::NYI(what) => io::Error::other(format!(
            "not read: {what} (write it anew, with snappy or zstd for instance)"
        )),
        other => io::Error::other(other),
    }
}
