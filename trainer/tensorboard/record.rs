//! TFRecord framing: `u64` length, masked CRC of it, bytes, masked CRC of them, all little
//! endian. The CRC is CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), rotated right
//! by 15 and offset by 0xa282ead8 so that checksums of checksums do not degenerate.

/// Bytes before and after the payload.
const HEAD: usize = 12;
const TAIL: usize = 4;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let odd = value & 1 == 1;
            value >>= 1;
            if odd {
                value ^= 0x82f6_3b78;
            }
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(!0u32, |crc, byte| {
        TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8)
    });
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// One record around `payload`.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(HEAD + payload.len() + TAIL);
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(payload);
    out.extend(masked_crc(payload).to_le_bytes());
    out
}

/// The whole records at the beginning of a file, each with the place after it; ends at the
/// first that is cut or damaged.
pub(super) struct EventRecords<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> EventRecords<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for EventRecords<'a> {
    type Item = (&'a [u8], usize);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (length_crc, rest) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*length_crc) != masked_crc(length) {
            return None;
        }
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (payload, rest) = rest.split_at_checked(length)?;
        let (crc, _) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != masked_crc(payload) {
            return None;
        }
        self.at += HEAD + length + TAIL;
        Some((payload, self.at))
    }
}
