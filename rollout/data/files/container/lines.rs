//! JSON Lines: one object a line; blank lines are passed over.

use std::io::{BufRead, BufReader, Seek, SeekFrom};

use super::json::parse;
use super::record::{RowFile, RowPlace, Stop, Visit};

pub(super) fn scan(rows: RowFile, visit: &mut Visit) -> Result<(), Stop> {
    let mut source = rows.file;
    source.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 20, source);
    let (mut offset, mut line, mut bytes) = (0, 0, Vec::new());
    loop {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(());
        }
        line += 1;
        let start = offset;
        offset += read as u64;
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let place = RowPlace {
            offset: start,
            bytes: read as u32,
            line,
            file: rows.index,
            length: 0,
        };
        visit((place, parse(&bytes)))?;
    }
}
