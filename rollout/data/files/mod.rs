//! Sources that are files: a container finds the records, a layout says what they mean.
//!
//! Opening reads the files once from end to end and keeps where each row lies and how long its
//! reference is; a row is read and parsed again each time it is drawn. The places of large files are
//! kept between starts, and their rows are held against the caller's check when they are drawn;
//! those of small files at once.

mod container;
mod index;
mod layout;
mod records;

pub use container::{ending, open_unpacked};
pub use layout::{RowMessages, conversation_row, row_messages, row_pictures, row_variables};
pub(crate) use records::PairReader;
pub use records::{Readable, RecordRow, Records, readable};

use std::path::{Path, PathBuf};

use super::config::{FileConfig, OnBadRow, SourceConfig, Split, VideoRows};
use super::error::DataError;
use super::example::Example;
use super::fingerprint::{PictureFiles, RowDigest};
use super::shuffle::permuted;
use super::source::{ABSENT, LeftOut, Opened, VIDEO};
use container::{BytesUse, Container, Reading, Record, RowPlace};
use index::{Index, Notes};
use layout::{Layout, RowContext};

/// An opened source of rows in files.
#[derive(Debug)]
pub(crate) struct FileSource {
    container: Container,
    layout: Layout,
    media: Option<PathBuf>,
    places: Vec<RowPlace>,
    /// Whether rows were held against the caller's check when the source was opened.
    pub(crate) checked: bool,
}

/// How a source is opened.
pub(crate) struct Opening<'a> {
    /// The source's key in the config.
    pub(crate) key: &'a str,
    /// Folder that paths are relative to.
    pub(crate) base: &'a Path,
    /// What a bad row does.
    pub(crate) on_bad_row: OnBadRow,
    /// Names that the templates of the source's task insert.
    pub(crate) inserted: &'a [String],
    /// What a row with a video does.
    pub(crate) videos: VideoRows,
    /// Whether the task says a system's word of its own.
    pub(crate) has_system: bool,
    /// What a row must pass besides being well formed.
    pub(crate) check: &'a dyn Fn(&Example) -> Result<(), String>,
    /// Hears of long scans: bytes read so far and in all.
    pub(crate) progress: &'a mut dyn FnMut(u64, u64),
}

impl FileSource {
    /// Opens the files of `source`, whose options are `file`.
    pub(crate) fn open(
        source: &SourceConfig,
        file: &FileConfig,
        opening: &mut Opening,
    ) -> Result<Opened<Self>, DataError> {
        let key = opening.key;
        check_options(file, key)?;
        let layout = Layout::of(source, file, key, opening.inserted)?;
        let path = opening.base.join(&file.path);
        let container = Container::open(source, &format!("{key}.path"), &path)?;
        let mut opened = Self {
            checked: container.files.bytes() < index::KEPT_FROM,
            media: file
                .media_root
                .as_ref()
                .map(|folder| opening.base.join(folder)),
            container,
            layout,
            places: Vec::new(),
        };
        let index = opened.index(&way(source, file, opening), opening)?;
        if index.places.is_empty() {
            return Err(DataError::config(
                format!("{key}.path"),
                match index.notes.skipped.first() {
                    Some(first) => format!(
                        "{} has no usable row; the first problem: {first}",
                        path.display()
                    ),
                    None => format!("{} has no row", path.display()),
                },
            ));
        }
        opened.places = index.places;
        let fits = |row: &u32| {
            let length = opened.places[*row as usize].length as usize;
            length >= file.min_length && file.max_length.is_none_or(|longest| length <= longest)
        };
        let all = opened.places.len();
        let rows: Vec<u32> = (0..all as u32).filter(fits).collect();
        if rows.is_empty() {
            return Err(DataError::config(
                format!("{key}.max_length"),
                format!("min_length and max_length leave none of {all} rows"),
            ));
        }
        let filtered = all - rows.len();
        let (train, held_out) = split(rows, file, key)?;
        Ok(Opened {
            rows: opened,
            train,
            held_out,
            skipped: index.notes.skipped,
            filtered,
            videos: index.notes.videos,
            unused: index.notes.unused,
            digest: index.digest,
        })
    }

    /// Characters of a row's reference.
    pub(crate) fn length(&self, row: usize) -> u32 {
        self.places[row].length
    }

    /// The example of a row; source name and task are filled in by the catalog.
    pub(crate) fn example(&self, row: usize) -> Result<Example, DataError> {
        let place = self.places[row];
        let record = self.container.read(place, &self.reading(BytesUse::Kept))?;
        self.layout
            .example(record, &self.row_context(place))
            .map_err(|problem| self.container.files.bad(place, problem))
    }

    /// An error about a row.
    pub(crate) fn bad(&self, row: usize, problem: String) -> DataError {
        self.container.files.bad(self.places[row], problem)
    }

    fn row_context(&self, place: RowPlace) -> RowContext<'_> {
        RowContext {
            media: self
                .media
                .as_deref()
                .unwrap_or_else(|| self.container.files.folder(place)),
            default_id: self.container.files.default_id(place),
        }
    }

    /// What of the rows is read.
    fn reading(&self, bytes: BytesUse) -> Reading<'_> {
        Reading {
            column: Box::new(|name| self.layout.uses(name)),
            bytes,
        }
    }

    /// The kept index of large files, or a scan.
    fn index(&self, way: &str, opening: &mut Opening) -> Result<Index, DataError> {
        if self.checked {
            return self.scan(opening);
        }
        let path = index::path(&self.container, way);
        if let Some(kept) = path.as_ref().ok().and_then(|path| index::load(path)) {
            return Ok(kept);
        }
        let found = self.scan(opening)?;
        if let Ok(path) = path {
            // Without a place to keep it, the next start scans again: slower, not wrong.
            let _ = index::store(&path, &found);
        }
        Ok(found)
    }

    fn scan(&self, opening: &mut Opening) -> Result<Index, DataError> {
        let mut index = Index::default();
        let mut digest = RowDigest::default();
        let pictures = match self.checked {
            true => PictureFiles::Bytes,
            false => PictureFiles::Names,
        };
        let total = self.container.files.bytes();
        self.container
            .columns()
            .for_each(|name| self.note(name, &mut index.notes));
        // The pictures in a large file are most of it.
        let reading = self.reading(match self.checked {
            true => BytesUse::Kept,
            false => BytesUse::PassedOver,
        });
        self.container.scan(&reading, &mut |(mut place, record)| {
            (opening.progress)(self.container.files.position(place), total);
            let context = self.row_context(place);
            let example = record.and_then(|record| {
                self.note_keys(&record, &mut index.notes);
                self.layout.example(record, &context)
            });
            let checked = example.and_then(|example| match self.checked {
                true => (opening.check)(&example).map(|()| example),
                false => Ok(example),
            });
            match checked {
                Ok(example) => {
                    if opening.has_system && example.talk.system.is_some() {
                        index.notes.add(SYSTEM.to_owned());
                    }
                    digest.add(&example, pictures);
                    place.length = u32::try_from(example.length).unwrap_or(u32::MAX);
                    index.places.push(place);
                }
                Err(problem) if opening.videos == VideoRows::Skip && has_video(&problem) => {
                    index.notes.videos += 1;
                }
                Err(problem) => {
                    let absent = problem.starts_with(ABSENT);
                    let error = self.container.files.bad(place, problem);
                    match opening.on_bad_row {
                        OnBadRow::Error if !absent => return Err(error),
                        _ => index.notes.skipped.extend(LeftOut::of(&error)),
                    }
                }
            }
            Ok(())
        })?;
        (opening.progress)(total, total);
        index.digest = digest.finish();
        Ok(index)
    }

    /// Notes the keys of a record that nothing uses.
    fn note_keys(&self, record: &Record, notes: &mut Notes) {
        for name in record
            .value
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
        {
            self.note(name, notes);
        }
        let (list, keys) = self.layout.unused_in_turns(record).unwrap_or_default();
        for key in keys {
            notes.add(format!("{list}.*.{key}"));
        }
    }

    fn note(&self, name: &str, notes: &mut Notes) {
        if !self.layout.uses(name) {
            notes.add(name.to_owned());
        }
    }
}

/// Whether a row's problem is a video in it.
fn has_video(problem: &str) -> bool {
    problem.contains(VIDEO) || problem.contains("parts of the type `video`")
}

/// How a row's system turn is called where it is not said.
const SYSTEM: &str = "the rows' system turns (the task's `system` is said in their place)";

fn check_options(file: &FileConfig, key: &str) -> Result<(), DataError> {
    if file.path.as_os_str().is_empty() {
        return Err(DataError::config(
            format!("{key}.path"),
            "the path of a file or folder is needed",
        ));
    }
    if file.split == Split::HeldOut && file.held_out > 0 {
        return Err(DataError::config(
            format!("{key}.held_out"),
            "only for split: train; with split: held_out every row is held out",
        ));
    }
    Ok(())
}

/// What decides how a source's files are read, as text.
fn way(source: &SourceConfig, file: &FileConfig, opening: &Opening) -> String {
    let kind = std::mem::discriminant(source);
    format!(
        "{kind:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {}",
        file.fields,
        file.media_root,
        file.view,
        file.delimiter,
        opening.on_bad_row,
        opening.videos,
        opening.inserted,
        opening.has_system
    )
}

/// Rows to train on and rows held out.
fn split(rows: Vec<u32>, file: &FileConfig, key: &str) -> Result<(Vec<u32>, Vec<u32>), DataError> {
    let n = rows.len();
    if file.split == Split::HeldOut {
        return Ok((Vec::new(), rows));
    }
    if file.held_out >= n {
        return Err(DataError::config(
            format!("{key}.held_out"),
            format!(
                "must be less than the {n} rows of the file, got {}",
                file.held_out
            ),
        ));
    }
    let mut aside = vec![false; n];
    for at in 0..file.held_out {
        aside[permuted(at, n, file.seed)] = true;
    }
    let mut aside = aside.into_iter();
    Ok(rows
        .into_iter()
        .partition(|_| !aside.next().unwrap_or(false)))
}

#[cfg(test)]
mod conversation_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
