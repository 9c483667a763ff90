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

pub(super) use record::{Place, Record, kind};

use std::path::Path;

use crate::data::config::SourceConfig;
use crate::data::error::DataError;
use files::{Files, Kind};
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
            Kind::Coco => Some(coco::Captions::read(&files)?),
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
                Kind::Csv => csv::scan(&self.files, index, visit)?,
                Kind::Parquet => parquet::scan(&self.files, index, visit)?,
                Kind::SvgFolder => svg_folder::scan(&self.files, index, visit)?,
                Kind::Json | Kind::Coco if self.files.is_array(index)? => {
                    array::scan(&self.files, index, visit)?;
                }
                Kind::Json | Kind::Coco => lines::scan(&self.files, index, visit)?,
            }
        }
        Ok(())
    }

    /// The record at a place that a scan gave.
    pub(super) fn read(&self, place: Place) -> Result<Record, DataError> {
        if let Some(captions) = &self.captions {
            return Ok(captions.record(place.offset as usize));
        }
        let record = match self.files.kind {
            Kind::Csv => csv::read(&self.files, place)?,
            Kind::Parquet => parquet::read(&self.files, place)?,
            Kind::SvgFolder => svg_folder::read(&self.files, place)?,
            Kind::Json | Kind::Coco => lines::parse(&self.files.slice(place)?),
        };
        record.map_err(|problem| self.files.bad(place, problem))
    }
}
