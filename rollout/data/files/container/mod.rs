//! Files as sequences of records: where each one lies, and one of them read again.
//!
//! A container knows nothing of what a record means. Every kind is read from end to end once
//! ([`Container::scan`]) and by place afterwards; nothing but places stays in memory.

mod array;
mod coco;
mod csv;
mod files;
mod lines;
mod parquet;
mod record;
mod svg_folder;

pub(super) use record::{Record, RowPlace, kind};

use std::path::Path;

use crate::data::config::SourceConfig;
use crate::data::error::DataError;
use files::{FileKind, Files};
use record::Visit;

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
        let captions = match files.kind {
            FileKind::Coco => Some(coco::Captions::read(&files)?),
            _ => None,
        };
        Ok(Self { files, captions })
    }

    /// Hands over every record in order.
    pub(super) fn scan(&self, visit: &mut Visit) -> Result<(), DataError> {
        if let Some(captions) = &self.captions {
            return captions.scan(visit);
        }
        for index in 0..self.files.list.len() as u32 {
            match self.files.kind {
                FileKind::Csv => csv::scan(&self.files, index, visit)?,
                FileKind::Parquet => parquet::scan(&self.files, index, visit)?,
                FileKind::SvgFolder => svg_folder::scan(&self.files, index, visit)?,
                FileKind::Json | FileKind::Coco if self.files.is_array(index)? => {
                    array::scan(&self.files, index, visit)?;
                }
                FileKind::Json | FileKind::Coco => lines::scan(&self.files, index, visit)?,
            }
        }
        Ok(())
    }

    /// The record at a place that a scan gave.
    pub(super) fn read(&self, place: RowPlace) -> Result<Record, DataError> {
        if let Some(captions) = &self.captions {
            return Ok(captions.record(place.offset as usize));
        }
        let record = match self.files.kind {
            FileKind::Csv => csv::read(&self.files, place)?,
            FileKind::Parquet => parquet::read(&self.files, place)?,
            FileKind::SvgFolder => svg_folder::read(&self.files, place)?,
            FileKind::Json | FileKind::Coco => lines::parse(&self.files.slice(place)?),
        };
        record.map_err(|problem| self.files.bad(place, problem))
    }
}
