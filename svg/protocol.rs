//! What travels over the pipes between the renderer and a worker process: frames of a length
//! (4 bytes, little endian) and that many bytes. A request is a JSON header and the source; an answer
//! is a JSON header and, on success, the pixels.

use crate::draw::DrawOptions;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// No frame is longer: 16384 x 16384 pixels of four bytes.
const MAX_FRAME: usize = 1 << 30;

/// One document to draw; the source follows as the next frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DrawRequest {
    pub canvas: (u32, u32),
    pub options: DrawOptions,
    pub deadline_ms: u64,
}

/// The outcome; on success the pixels follow as the next frame.
pub(crate) type Answer = Result<(), Failure>;

pub(crate) fn write_frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("frame too long"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

pub(crate) fn read_frame(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::other("frame too long"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    write_frame(out, &serde_json::to_vec(value)?)
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(input: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&read_frame(input)?)?)
}
