//! The places of a source's records, kept between starts for large files.
//!
//! An index belongs to exact files (path, size, time of the last change) read in one way; anything
//! else is another index. It lies in the user's cache folder and may be deleted at any time.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::container::{Container, RowPlace};
use crate::data::source::LeftOut;

/// Sources of fewer bytes are read anew at each start.
pub(super) const KEPT_FROM: u64 = 64 << 20;

const MAGIC: &[u8; 8] = b"svgrlix5";
const PLACE: usize = 24;
/// Keys that are named at most: rows may be maps of names without end.
const MOST_UNUSED: usize = 40;

/// What a scan found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Index {
    pub(super) places: Vec<RowPlace>,
    /// What is said of the records.
    pub(super) notes: Notes,
    /// What tells the rows from others.
    pub(super) digest: String,
}

/// What a scan has to say besides places.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Records left out.
    pub(super) skipped: Vec<LeftOut>,
    /// Keys of records that nothing uses, in the order in which they were met.
    pub(super) unused: Vec<String>,
    /// Records left out for their videos.
    #[serde(default)]
    pub(super) videos: usize,
}

impl Notes {
    /// Names a key that nothing uses, once.
    pub(super) fn add(&mut self, key: String) {
        if self.unused.len() < MOST_UNUSED && !self.unused.contains(&key) {
            self.unused.push(key);
        }
    }
}

/// Where the index of these files lies; `way` says how they are read.
pub(super) fn path(container: &Container, way: &str) -> io::Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = home("XDG_CACHE_HOME")
        .or_else(|| home("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME is set"))?;
    let mut first = DefaultHasher::new();
    way.hash(&mut first);
    for file in &container.files.list {
        let data = fs::metadata(&file.path)?;
        let changed = data.modified()?.duration_since(UNIX_EPOCH);
        let changed = changed.map_or(0, |since| since.as_nanos());
        (fs::canonicalize(&file.path)?, data.len(), changed).hash(&mut first);
    }
    let name = format!("{:016x}.index", first.finish());
    Ok(cache.join("svgrl").join("data").join(name))
}

/// The kept index, if it is there and whole.
pub(super) fn load(path: &Path) -> Option<Index> {
    let mut reader = io::BufReader::with_capacity(1 << 20, fs::File::open(path).ok()?);
    let mut header = [0; 24];
    reader.read_exact(&mut header).ok()?;
    let number = |at: usize| {
        u64::from_le_bytes(
            header[at..at + 8]
                .try_into()
                .expect("eight bytes of a header"),
        )
    };
    let (count, rest) = (number(8) as usize, number(16));
    let expected = 24 + count as u64 * PLACE as u64 + rest;
    if &header[..8] != MAGIC || fs::metadata(path).ok()?.len() != expected {
        return None;
    }
    let mut places = Vec::with_capacity(count);
    let mut bytes = [0; PLACE];
    for _ in 0..count {
        reader.read_exact(&mut bytes).ok()?;
        places.push(unpack(&bytes));
    }
    let (notes, digest) = serde_json::from_reader(reader).ok()?;
    Some(Index {
        places,
        notes,
        digest,
    })
}

/// Keeps an index; written aside and renamed, so that it is whole or not there.
pub(super) fn store(path: &Path, index: &Index) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let aside = path.with_extension(format!("{}.partial", std::process::id()));
    let mut writer = io::BufWriter::with_capacity(1 << 20, fs::File::create(&aside)?);
    let notes = serde_json::to_vec(&(&index.notes, &index.digest))?;
    writer.write_all(MAGIC)?;
    writer.write_all(&(index.places.len() as u64).to_le_bytes())?;
    writer.write_all(&(notes.len() as u64).to_le_bytes())?;
    for place in &index.places {
        writer.write_all(&pack(place))?;
    }
    writer.write_all(&notes)?;
    writer.into_inner()?.sync_all()?;
    fs::rename(&aside, path)
}

fn pack(place: &RowPlace) -> [u8; PLACE] {
    let mut bytes = [0; PLACE];
    bytes[..8].copy_from_slice(&place.offset.to_le_bytes());
    let fields = [place.bytes, place.line, place.file, place.length];
    for (at, field) in fields.into_iter().enumerate() {
        bytes[8 + 4 * at..12 + 4 * at].copy_from_slice(&field.to_le_bytes());
    }
    bytes
}

fn unpack(bytes: &[u8; PLACE]) -> RowPlace {
    let field = |at: usize| {
        let at = 8 + 4 * at;
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes of a place"))
    };
    RowPlace {
        offset: u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes of a place")),
        bytes: field(0),
        line: field(1),
        file: field(2),
        length: field(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_index_comes_back_and_a_cut_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.index");
        let place = |at: u32| RowPlace {
            offset: u64::from(at) << 33,
            bytes: at + 1,
            line: at + 2,
            file: at + 3,
            length: u32::MAX - at,
        };
        let index = Index {
            places: (0..1000).map(place).collect(),
            notes: Notes {
                skipped: vec![LeftOut {
                    place: "x:3".into(),
                    problem: "problem".into(),
                }],
                unused: vec!["b".into(), "a".into()],
                videos: 2,
            },
            digest: "0123456789abcdef".into(),
        };
        assert_eq!(load(&path), None);
        store(&path, &index).unwrap();
        assert_eq!(load(&path), Some(index));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(5000).unwrap();
        assert_eq!(load(&path), None);
    }
}
