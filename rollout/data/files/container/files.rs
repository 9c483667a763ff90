//! The files of one source: opened for what they hold, read by place, named in errors.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::array::JsonList;
use super::arrow::ArrowTable;
use super::csv::CsvHeader;
use super::parquet::ParquetTable;
use super::paths::named;
use super::record::{RowPlace, slice};
use super::unpack::{ending, head, open_unpacked, stem};
use crate::data::config::SourceConfig;
use crate::data::error::{At, DataError};

/// One file of a source.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    /// Its bytes, unpacked; `None` for drawings, each of which is opened when it is read.
    file: Option<File>,
    pub(crate) bytes: u64,
    pub(super) holds: Holds,
}

/// The files of one source.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) list: Vec<DataFile>,
    key: String,
}

/// How a file holds records.
#[derive(Debug)]
pub(super) enum Holds {
    /// A JSON object a line.
    Lines,
    /// Objects in a JSON list.
    Array(JsonList),
    Csv(CsvHeader),
    Parquet(ParquetTable),
    Arrow(ArrowTable),
    Svg,
    Coco,
}

/// What a source's format says of its files; of tables and text what is in a file goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Json,
    Csv,
    Parquet,
    Arrow,
    Svg,
    Coco,
}

/// Endings of files of rows.
const JSON: &[&str] = &["jsonl", "json", "ndjson"];
const CSV: &[&str] = &["csv", "tsv"];
const PARQUET: &[&str] = &["parquet"];
const ARROW: &[&str] = &["arrow", "feather", "ipc"];

impl FileKind {
    fn of(source: &SourceConfig) -> Self {
        match source {
            SourceConfig::Csv(_) => Self::Csv,
            SourceConfig::Parquet(_) | SourceConfig::Vectorgym(_) => Self::Parquet,
            SourceConfig::Arrow(_) => Self::Arrow,
            SourceConfig::SvgFolder(_) => Self::Svg,
            SourceConfig::Coco(_) => Self::Coco,
            _ => Self::Json,
        }
    }

    /// Endings of the files that are taken from a folder: of the first of these that it has any of.
    fn endings(self) -> Vec<&'static [&'static str]> {
        let own = match self {
            Self::Json => JSON,
            Self::Csv => CSV,
            Self::Parquet => PARQUET,
            Self::Arrow => ARROW,
            Self::Svg => return vec![&["svg"]],
            Self::Coco => return vec![&["json"]],
        };
        let others = [PARQUET, ARROW, JSON, CSV];
        let others = others.into_iter().filter(|other| *other != own);
        std::iter::once(own).chain(others).collect()
    }

    /// What a file of rows is: by its first bytes, else by its ending, else as the format says.
    fn told_by(self, head: &[u8], path: &Path) -> Self {
        if matches!(self, Self::Svg | Self::Coco) {
            return self;
        }
        match head {
            [b'P', b'A', b'R', b'1', ..] => return Self::Parquet,
            [b'A', b'R', b'R', b'O', b'W', b'1', ..] | [0xff, 0xff, 0xff, 0xff, ..] => {
                return Self::Arrow;
            }
            _ => {}
        }
        let ending = ending(path);
        let of = |endings: &[&str]| endings.contains(&ending.as_str());
        match () {
            () if of(JSON) => Self::Json,
            () if of(CSV) => Self::Csv,
            () if of(PARQUET) => Self::Parquet,
            () if of(ARROW) => Self::Arrow,
            () => self,
        }
    }
}

impl Files {
    /// Opens the files at `path`: one file, a folder's files, those that match a pattern with `*` in its last
    /// part, or a saved dataset. `key` is what names them: a config's key, a flag.
    pub(crate) fn open(source: &SourceConfig, key: &str, path: &Path) -> Result<Self, DataError> {
        let kind = FileKind::of(source);
        let unreadable = |path: &Path, source: io::Error| DataError::Read {
            key: key.to_owned(),
            path: path.to_owned(),
            source,
        };
        let endings = kind.endings();
        let paths = named(path, &endings).map_err(|error| unreadable(path, error))?;
        if paths.is_empty() {
            return Err(DataError::config(
                key,
                format!(
                    "{} has no file ending in {}",
                    path.display(),
                    endings.concat().join(", ")
                ),
            ));
        }
        let delimiter = source.file().and_then(|file| file.delimiter);
        let open = |path: PathBuf| {
            DataFile::open(&path, kind, delimiter).map_err(|error| unreadable(&path, error))
        };
        Ok(Self {
            list: paths.into_iter().map(open).collect::<Result<_, _>>()?,
            key: key.to_owned(),
        })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.list.iter().map(|file| file.bytes).sum()
    }

    /// How many bytes of all files lie before a place.
    pub(crate) fn position(&self, place: RowPlace) -> u64 {
        let before = self.list[..place.file as usize].iter();
        let within = match self.list[place.file as usize].holds {
            Holds::Lines | Holds::Array(_) | Holds::Csv(_) => place.offset,
            _ => 0,
        };
        before.map(|file| file.bytes).sum::<u64>() + within
    }

    /// An error about the record at `place`.
    pub(crate) fn bad(&self, place: RowPlace, problem: String) -> DataError {
        let file = &self.list[place.file as usize];
        let at = match file.holds {
            Holds::Parquet(_) => At::RowGroup {
                group: place.offset,
                row: u64::from(place.bytes),
            },
            Holds::Svg => At::File,
            Holds::Coco | Holds::Arrow(_) => At::Record(u64::from(place.line)),
            Holds::Lines | Holds::Array(_) | Holds::Csv(_) => At::Line(u64::from(place.line)),
        };
        DataError::Row {
            path: file.path.clone(),
            at,
            problem,
        }
    }

    /// What the record is called when it has no id of its own.
    pub(crate) fn default_id(&self, place: RowPlace) -> String {
        let file = &self.list[place.file as usize];
        let stem = stem(&file.path);
        match file.holds {
            Holds::Svg => stem,
            _ if self.list.len() > 1 => format!("{stem}:{}", place.line),
            _ => place.line.to_string(),
        }
    }

    /// Folder that a record's relative paths start from.
    pub(crate) fn folder(&self, place: RowPlace) -> &Path {
        let path = &self.list[place.file as usize].path;
        path.parent().unwrap_or(Path::new(""))
    }

    pub(crate) fn unreadable(&self, index: u32, source: io::Error) -> DataError {
        DataError::Read {
            key: self.key.clone(),
            path: self.list[index as usize].path.clone(),
            source,
        }
    }

    /// The opened file of rows.
    pub(super) fn rows(&self, index: u32) -> &File {
        let file = self.list[index as usize].file.as_ref();
        file.expect("only drawings are not kept open, and they are no rows")
    }

    pub(crate) fn slice(&self, place: RowPlace) -> Result<Vec<u8>, DataError> {
        slice(self.rows(place.file), place).map_err(|source| self.unreadable(place.file, source))
    }
}

impl DataFile {
    fn open(path: &Path, kind: FileKind, delimiter: Option<char>) -> io::Result<Self> {
        if kind == FileKind::Svg {
            return Ok(Self {
                bytes: std::fs::metadata(path)?.len(),
                path: path.to_owned(),
                file: None,
                holds: Holds::Svg,
            });
        }
        let file = open_unpacked(path)?;
        let bytes = file.metadata()?.len();
        let holds = match kind.told_by(&head(&file)?, path) {
            FileKind::Json => match JsonList::find(&file)? {
                Some(list) => Holds::Array(list),
                None => Holds::Lines,
            },
            FileKind::Csv => Holds::Csv(CsvHeader::read(&file, delimiter, ending(path) == "tsv")?),
            FileKind::Parquet => Holds::Parquet(ParquetTable::open(&file)?),
            FileKind::Arrow => Holds::Arrow(ArrowTable::open(&file)?),
            FileKind::Svg => Holds::Svg,
            FileKind::Coco => Holds::Coco,
        };
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            bytes,
            holds,
        })
    }
}
