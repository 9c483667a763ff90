//! One JSON list of objects, of any size, alone or as the `data` of an object: the borders of its elements are
//! found by counting brackets outside strings, without holding the file; the elements are parsed one by one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::json::parse;
use super::record::{RowFile, RowPlace, Stop, Visit};
use crate::data::error::DataError;

/// Where a file's list begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JsonList {
    offset: u64,
    line: u32,
}

/// Keys of an object under which lists of rows are published.
const ROWS: [&[u8]; 4] = [b"data", b"rows", b"examples", b"train"];

impl JsonList {
    /// The list that a file is, or that is all that its one object holds of rows; `None` where it is neither.
    pub(super) fn find(file: &File) -> io::Result<Option<Self>> {
        let mut source = file;
        source.seek(SeekFrom::Start(0))?;
        let mut search = Search::default();
        for byte in BufReader::with_capacity(1 << 20, source).bytes() {
            if let Some(found) = search.take(byte?) {
                return Ok(found);
            }
        }
        Ok(search.list.filter(|_| search.closed))
    }
}

/// Looks for the list from a file's start.
#[derive(Default)]
struct Search {
    offset: u64,
    line: u32,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The last string, as it stands.
    string: Vec<u8>,
    /// A list of rows in the first object.
    list: Option<JsonList>,
    /// Whether the first object has ended.
    closed: bool,
}

impl Search {
    /// Takes one byte; an answer when nothing that follows can change it.
    fn take(&mut self, byte: u8) -> Option<Option<JsonList>> {
        let here = JsonList {
            offset: self.offset,
            line: self.line + 1,
        };
        self.offset += 1;
        self.line += u32::from(byte == b'\n');
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            if self.in_string && self.string.len() < 16 {
                self.string.push(byte);
            }
            return None;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf => {}
            b'[' if self.depth == 0 && !self.closed => return Some(Some(here)),
            _ if self.depth == 0 && (self.closed || byte != b'{') => return Some(None),
            b'"' => {
                self.in_string = true;
                self.string.clear();
            }
            b'[' if self.depth == 1 && ROWS.contains(&self.string.as_slice()) => {
                self.list.get_or_insert(here);
                self.depth += 1;
            }
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                self.closed = self.depth == 0;
                // One row a line, as far as can be seen: without a list there is none to look for.
                if self.closed && self.list.is_none() {
                    return Some(None);
                }
            }
            _ => {}
        }
        None
    }
}

/// Where the scanner stands.
struct Scanner {
    offset: u64,
    line: u32,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Bytes of the element so far; empty between elements.
    element: Vec<u8>,
    /// Offset and line of its first byte.
    start: (u64, u32),
}

pub(super) fn scan(rows: RowFile, list: JsonList, visit: &mut Visit) -> Result<(), Stop> {
    let mut source = rows.file;
    source.seek(SeekFrom::Start(list.offset))?;
    let mut reader = BufReader::with_capacity(1 << 20, source);
    let mut scanner = Scanner {
        offset: list.offset,
        line: list.line,
        depth: 0,
        in_string: false,
        escaped: false,
        element: Vec::new(),
        start: (0, 1),
    };
    loop {
        let chunk = reader.fill_buf()?;
        let read = chunk.len();
        if read == 0 {
            break;
        }
        for byte in chunk {
            if scanner.take(*byte) {
                scanner.hand_over(rows.index, visit)?;
                if scanner.depth == 0 {
                    return Ok(());
                }
            }
        }
        reader.consume(read);
    }
    scanner.hand_over(rows.index, visit)?;
    let place = RowPlace {
        offset: scanner.offset,
        bytes: 0,
        line: scanner.line,
        file: rows.index,
        length: 0,
    };
    visit((
        place,
        Err("the array is not closed: the file is cut short".into()),
    ))?;
    Ok(())
}

impl Scanner {
    /// Takes one byte; true when an element has ended with it (it belongs to the array then).
    fn take(&mut self, byte: u8) -> bool {
        let ends = !self.in_string && (self.depth == 1 && matches!(byte, b',' | b']'));
        let outside = self.depth == 0 || ends;
        if !outside && (!self.element.is_empty() || !byte.is_ascii_whitespace()) {
            if self.element.is_empty() {
                self.start = (self.offset, self.line);
            }
            self.element.push(byte);
        }
        self.offset += 1;
        self.line += u32::from(byte == b'\n');
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        ends
    }

    fn hand_over(&mut self, file: u32, visit: &mut Visit) -> Result<(), DataError> {
        let element = std::mem::take(&mut self.element);
        let trimmed = element.trim_ascii_end();
        if trimmed.is_empty() {
            return Ok(());
        }
        let place = RowPlace {
            offset: self.start.0,
            bytes: trimmed.len() as u32,
            line: self.start.1,
            file,
            length: 0,
        };
        visit((place, parse(trimmed)))
    }
}
