//! The zip archives that `torch.save` writes: entries stored without compression. Only what is needed
//! to find an entry's bytes; anything else in the format is refused.

use std::collections::BTreeMap;
use std::ops::Range;

/// Where each entry's bytes lie in the archive.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, String> {
    const END: u32 = 0x0605_4b50;
    const CENTRAL: u32 = 0x0201_4b50;
    const END_SIZE: usize = 22;
    let last = bytes
        .len()
        .checked_sub(END_SIZE)
        .ok_or("is too short for a zip archive")?;
    let end = (last.saturating_sub(0xffff)..=last)
        .rev()
        .find(|&at| u32_at(bytes, at) == Some(END))
        .ok_or("has no zip directory (is the file cut short?)")?;
    let count = u16_at(bytes, end + 10).ok_or(SHORT)?;
    let (mut count, mut at) = (
        u64::from(count),
        u64::from(u32_at(bytes, end + 16).ok_or(SHORT)?),
    );
    if count == 0xffff || at == 0xffff_ffff {
        (count, at) = zip64(bytes, end)?;
    }
    let mut at = usize::try_from(at).map_err(|_| SHORT)?;
    let mut found = BTreeMap::new();
    for _ in 0..count {
        if u32_at(bytes, at) != Some(CENTRAL) {
            return Err("has a damaged zip directory".into());
        }
        let field = |offset: usize| u16_at(bytes, at + offset).map(usize::from).ok_or(SHORT);
        let wide = |offset: usize| u32_at(bytes, at + offset).map(u64::from).ok_or(SHORT);
        let (name_len, extra_len, comment_len) = (field(28)?, field(30)?, field(32)?);
        let name = part(bytes, at + 46, name_len).ok_or(SHORT)?;
        let name = String::from_utf8_lossy(name).into_owned();
        if field(10)? != 0 {
            return Err(format!(
                "holds {name} compressed, which torch.save never does"
            ));
        }
        let extra = part(bytes, at + 46 + name_len, extra_len).ok_or(SHORT)?;
        let mut sizes = Wide::of(extra);
        let size = sizes.or(wide(24)?);
        // The compressed size equals it, and comes before the offset in the extra field.
        sizes.or(wide(20)?);
        let offset = sizes.or(wide(42)?);
        let (size, offset) = (usize::try_from(size), usize::try_from(offset));
        let (Ok(size), Ok(offset)) = (size, offset) else {
            return Err(SHORT.into());
        };
        found.insert(name, data(bytes, offset, size).ok_or(SHORT)?);
        at += 46 + name_len + extra_len + comment_len;
    }
    Ok(found)
}

const SHORT: &str = "is cut short";

/// The 64-bit values of an extra field, in their order.
struct Wide<'a>(&'a [u8]);

impl<'a> Wide<'a> {
    fn of(extra: &'a [u8]) -> Self {
        let mut at = 0;
        while let (Some(id), Some(len)) = (u16_at(extra, at), u16_at(extra, at + 2)) {
            let len = usize::from(len);
            if id == 1 {
                return Self(part(extra, at + 4, len).unwrap_or_default());
            }
            at += 4 + len;
        }
        Self(&[])
    }

    /// `narrow`, unless it says that the value is here.
    fn or(&mut self, narrow: u64) -> u64 {
        match self.0.split_first_chunk::<8>() {
            Some((value, rest)) if narrow == 0xffff_ffff => {
                self.0 = rest;
                u64::from_le_bytes(*value)
            }
            _ => narrow,
        }
    }
}

/// Number of entries and place of the directory, from the records of large archives.
fn zip64(bytes: &[u8], end: usize) -> Result<(u64, u64), String> {
    let locator = end
        .checked_sub(20)
        .filter(|&at| u32_at(bytes, at) == Some(0x0706_4b50));
    let record = locator
        .and_then(|at| u64_at(bytes, at + 8))
        .and_then(|at| usize::try_from(at).ok());
    record
        .filter(|&at| u32_at(bytes, at) == Some(0x0606_4b50))
        .and_then(|at| Some((u64_at(bytes, at + 32)?, u64_at(bytes, at + 48)?)))
        .ok_or_else(|| "has a damaged zip64 directory".into())
}

/// The bytes behind an entry's own header.
fn data(bytes: &[u8], header: usize, size: usize) -> Option<Range<usize>> {
    const LOCAL: u32 = 0x0403_4b50;
    if u32_at(bytes, header)? != LOCAL {
        return None;
    }
    let name = usize::from(u16_at(bytes, header + 26)?);
    let extra = usize::from(u16_at(bytes, header + 28)?);
    let start = header + 30 + name + extra;
    let end = start.checked_add(size)?;
    (end <= bytes.len()).then_some(start..end)
}

fn part(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(part(bytes, at, 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(part(bytes, at, 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(part(bytes, at, 8)?.try_into().ok()?))
}
