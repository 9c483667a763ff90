//! Files as sequences of records: where each one lies, and one of them read again.
//!
//! A container knows nothing of what a record means. Every kind is read from end to end once
//! ([`Container::scan`]) and by place afterwards; nothing but places stays in memory.

mod array;
mod arrow;
mod coco;
mod csv;
mod files;
mod json;
mod lines;
mod parquet;
mod paths;
mod record;
mod svg_folder;
mod table;
mod unpack;

pub(super) use record::{BytesUse, Reading, Record, RowPlace, kind};
pub use unpack::{ending, open_unpacked};

use std::path::Path;

use crate::data::config::SourceConfig;
use crate::data::error::DataError;
use files::{DataFile, Files, Holds};
use record::{RowFile, Stop, Visit};

/// The files of one source and how records are found in them.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) files: Files,
    captions: Option<coco::Captions>,
}

impl Container {
    /// Opens the files at `path`, as [`Files::open`] finds them; of COCO's the captions are read at once.
    pub(super) fn open(source: &SourceConfig, key: &str, path: &Path) -> Result<Self, DataError> {
        let files = Files::open(source, key, path)?;
        let captions = match source {
            SourceConfig::Coco(_) => Some(coco::Captions::read(&files)?),
            _ => None,
        };
        Ok(Self { files, captions })
    }

    /// The columns of tables, whose rows say nothing of what is not read of them.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.files.list.iter().flat_map(|file| -> Vec<&str> {
            match &file.holds {
                Holds::Parquet(table) => table.columns().collect(),
                Holds::Arrow(table) => table.columns().collect(),
                _ => Vec::new(),
            }
        })
    }

    /// Hands over every record in order.
    pub(super) fn scan(&self, reading: &Reading, visit: &mut Visit) -> Result<(), DataError> {
        if let Some(captions) = &self.captions {
            return captions.scan(visit);
        }
        for (index, file) in self.files.list.iter().enumerate() {
            let index = index as u32;
            self.scan_file((file, index), reading, visit)
                .map_err(|stop| match stop {
                    Stop::Unreadable(error) => self.files.unreadable(index, error),
                    Stop::Visitor(error) => error,
                })?;
        }
        Ok(())
    }

    fn scan_file(
        &self,
        (file, index): (&DataFile, u32),
        reading: &Reading,
        visit: &mut Visit,
    ) -> Result<(), Stop> {
        let rows = || RowFile {
            file: self.files.rows(index),
            path: &file.path,
            index,
            bytes: file.bytes,
        };
        match &file.holds {
            Holds::Lines | Holds::Coco => lines::scan(rows(), visit),
            Holds::Array(list) => array::scan(rows(), *list, visit),
            Holds::Csv(header) => csv::scan(rows(), header, visit),
            Holds::Parquet(table) => parquet::scan(rows(), table, reading, visit),
            Holds::Arrow(table) => arrow::scan(rows(), table, reading, visit),
            Holds::Svg => {
                let place = RowPlace {
                    offset: 0,
                    bytes: file.bytes.min(u64::from(u32::MAX)) as u32,
                    line: index + 1,
                    file: index,
                    length: 0,
                };
                visit((place, svg_folder::read(&file.path)?))?;
                Ok(())
            }
        }
    }

    /// The record at a place that a scan gave.
    pub(super) fn read(&self, place: RowPlace, reading: &Reading) -> Result<Record, DataError> {
        if let Some(captions) = &self.captions {
            return Ok(captions.record(place.offset as usize));
        }
        let files = &self.files;
        let file = &files.list[place.file as usize];
        let own = || files.rows(place.file);
        let record = match &file.holds {
            Holds::Lines | Holds::Array(_) | Holds::Coco => json::parse(&files.slice(place)?),
            Holds::Csv(header) => csv::parse(header, &files.slice(place)?),
            Holds::Parquet(table) => parquet::read(&file.path, place, table, reading),
            Holds::Arrow(table) => arrow::read(own(), place, table, reading),
            Holds::Svg => {
                svg_folder::read(&file.path).map_err(|error| files.unreadable(place.file, error))?
            }
        };
        record.map_err(|problem| files.bad(place, problem))
    }
}
