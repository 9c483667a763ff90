//! Tables as the `datasets` library keeps them on disk: Arrow's stream of record batches, and its file form, which
//! is the same with a list of its batches at the end. A row is read with its whole batch.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{ArrowError, SchemaRef};

use super::record::{Reading, Record, RowFile, RowPlace, Stop, Visit};
use super::table::record;
use super::unpack::head;

/// The first bytes of the file form, and where its stream begins.
const FILE_FORM: (&[u8], u64) = (b"ARROW1", 8);

/// What a file says of its columns, and where its batches lie.
#[derive(Debug)]
pub(super) struct ArrowTable {
    schema: SchemaRef,
    /// Where the stream begins, and where its first batch does.
    start: (u64, u64),
    /// Where each batch lies: from and to.
    batches: Vec<(u64, u64)>,
}

impl ArrowTable {
    /// Reads the columns, and the sizes of the batches without what is in them.
    pub(super) fn open(file: &File) -> io::Result<Self> {
        let start = match head(file)?.starts_with(FILE_FORM.0) {
            true => FILE_FORM.1,
            false => 0,
        };
        let mut source = BufReader::new(file);
        source.seek(SeekFrom::Start(start))?;
        let schema = StreamReader::try_new(&mut source, None)
            .map_err(in_words)?
            .schema();
        let first = source.stream_position()?;
        let mut table = Self {
            schema,
            start: (start, first),
            batches: Vec::new(),
        };
        let mut from = first;
        while let Some((kind, to)) = message(&mut source, from)? {
            match kind {
                arrow_ipc::MessageHeader::RecordBatch => table.batches.push((from, to)),
                _ => {
                    return Err(io::Error::other(
                        "columns of categories (dictionaries) are not read: save them as text",
                    ));
                }
            }
            from = to;
        }
        let bytes = file.metadata()?.len();
        match table.batches.last() {
            Some((_, to)) if *to > bytes => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file is cut off: its last batch is not whole",
            )),
            _ => Ok(table),
        }
    }

    /// The names of the columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
    }

    fn batch(&self, file: &File, number: usize, reading: &Reading) -> Result<RecordBatch, String> {
        use std::os::unix::fs::FileExt;
        let (from, to) = self.batches.get(number).ok_or("there is no such batch")?;
        let (start, first) = self.start;
        let mut bytes = vec![0; (first - start + to - from) as usize];
        let (head, body) = bytes.split_at_mut((first - start) as usize);
        file.read_exact_at(head, start)
            .and_then(|()| file.read_exact_at(body, *from))
            .map_err(|error| error.to_string())?;
        let columns = self.columns().enumerate();
        let used = columns.filter(|(_, name)| (reading.column)(name));
        let used: Vec<usize> = used.map(|(at, _)| at).collect();
        let reader = StreamReader::try_new(bytes.as_slice(), Some(used));
        let batch = reader.map_err(|error| in_words(error).to_string())?.next();
        let batch = batch.ok_or("the batch is not there any more")?;
        batch.map_err(|error| in_words(error).to_string())
    }
}

/// The message at `from`: what it holds and where it ends; `None` at the end of the stream.
fn message(
    source: &mut BufReader<&File>,
    from: u64,
) -> io::Result<Option<(arrow_ipc::MessageHeader, u64)>> {
    let mut word = [0; 4];
    let mut next = |source: &mut BufReader<&File>| -> io::Result<Option<i32>> {
        match source.read_exact(&mut word) {
            Ok(()) => Ok(Some(i32::from_le_bytes(word))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    };
    source.seek(SeekFrom::Start(from))?;
    // Before the length stands a mark, which the first version of the format lacks.
    let (mut before, mut length) = (4, next(source)?);
    if length == Some(-1) {
        (before, length) = (8, next(source)?);
    }
    let length = match length {
        None | Some(0) => return Ok(None),
        Some(length) => u64::try_from(length).map_err(io::Error::other)?,
    };
    let mut bytes = Vec::new();
    source.take(length).read_to_end(&mut bytes)?;
    let message = arrow_ipc::root_as_message(&bytes)
        .map_err(|error| io::Error::other(format!("not an Arrow table: {error}")))?;
    let body = u64::try_from(message.bodyLength()).map_err(io::Error::other)?;
    Ok(Some((message.header_type(), from + before + length + body)))
}

pub(super) fn scan(
    rows: RowFile,
    table: &ArrowTable,
    reading: &Reading,
    visit: &mut Visit,
) -> Result<(), Stop> {
    let mut number = 0;
    for group in 0..table.batches.len() {
        let batch = table.batch(rows.file, group, reading);
        let batch = batch.map_err(io::Error::other)?;
        for at in 0..batch.num_rows() {
            number += 1;
            let place = RowPlace {
                offset: group as u64,
                bytes: at as u32,
                line: number,
                file: rows.index,
                length: 0,
            };
            visit((place, record(&batch, at, reading)))?;
        }
    }
    Ok(())
}

/// The row at a place of `file`.
pub(super) fn read(
    file: &File,
    place: RowPlace,
    table: &ArrowTable,
    reading: &Reading,
) -> Result<Record, String> {
    let batch = table.batch(file, place.offset as usize, reading)?;
    match (place.bytes as usize) < batch.num_rows() {
        true => record(&batch, place.bytes as usize, reading),
        false => Err("the row is not there any more".into()),
    }
}

fn in_words(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, source) => source,
        other => io::Error::other(other),
    }
}
