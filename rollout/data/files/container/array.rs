//! One JSON array of objects, of any size: the borders of its elements are found by counting
//! brackets outside strings, without holding the file; the elements are parsed one by one.

use std::io::{BufRead, BufReader};

use super::files::Files;
use super::lines;
use super::record::{RowPlace, Visit};
use crate::data::error::DataError;

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

pub(super) fn scan(files: &Files, file: u32, visit: &mut Visit) -> Result<(), DataError> {
    let mut reader = BufReader::with_capacity(1 << 20, &files.list[file as usize].file);
    let mut scanner = Scanner {
        offset: 0,
        line: 1,
        depth: 0,
        in_string: false,
        escaped: false,
        element: Vec::new(),
        start: (0, 1),
    };
    loop {
        let chunk = reader
            .fill_buf()
            .map_err(|source| files.unreadable(file, source))?;
        let read = chunk.len();
        if read == 0 {
            break;
        }
        for byte in chunk {
            if scanner.take(*byte) {
                scanner.hand_over(file, visit)?;
            }
        }
        reader.consume(read);
    }
    if scanner.depth == 0 {
        return Ok(());
    }
    scanner.hand_over(file, visit)?;
    let place = RowPlace {
        offset: scanner.offset,
        bytes: 0,
        line: scanner.line,
        file,
        length: 0,
    };
    visit((
        place,
        Err("the array is not closed: the file is cut short".into()),
    ))
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
        visit((place, lines::parse(trimmed)))
    }
}
