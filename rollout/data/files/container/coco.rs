//! COCO's caption files: one object with `images` (id, file_name) and `annotations` (image_id,
//! caption). The captions stay in memory: the largest such file holds 600,000 of them.

use std::collections::HashMap;
use std::io::Read;

use serde::Deserialize;
use serde_json::json;

use super::files::Files;
use super::record::{Record, RowPlace, Visit};
use crate::data::error::{At, DataError};

#[derive(Deserialize)]
struct CocoDocument {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    caption: String,
}

/// The captions of a source's files.
#[derive(Debug)]
pub(super) struct Captions {
    photographs: HashMap<u64, String>,
    /// The caption and its file.
    rows: Vec<(Annotation, u32)>,
}

impl Captions {
    pub(super) fn read(files: &Files) -> Result<Self, DataError> {
        let mut captions = Self {
            photographs: HashMap::new(),
            rows: Vec::new(),
        };
        for (index, file) in files.list.iter().enumerate() {
            let mut text = Vec::new();
            files
                .rows(index as u32)
                .read_to_end(&mut text)
                .map_err(|error| files.unreadable(index as u32, error))?;
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            let read = serde_json::from_slice(text).or_else(|error| {
                let mended = rewards::mended_json(text);
                let read = mended.and_then(|text| serde_json::from_slice(&text).ok());
                read.ok_or(error)
            });
            let document: CocoDocument = read.map_err(|error| DataError::Row {
                path: file.path.clone(),
                at: At::Line(error.line() as u64),
                problem: format!("not a COCO caption file: {error}"),
            })?;
            let images = document.images.into_iter();
            captions
                .photographs
                .extend(images.map(|image| (image.id, image.file_name)));
            let rows = document.annotations.into_iter();
            captions.rows.extend(rows.map(|row| (row, index as u32)));
        }
        Ok(captions)
    }

    pub(super) fn scan(&self, visit: &mut Visit) -> Result<(), DataError> {
        for (at, (row, file)) in self.rows.iter().enumerate() {
            let place = RowPlace {
                offset: at as u64,
                bytes: 0,
                line: at as u32 + 1,
                file: *file,
                length: 0,
            };
            let record = match self.photographs.contains_key(&row.image_id) {
                true => Ok(self.record(at)),
                false => Err(format!("image_id {} is not among the images", row.image_id)),
            };
            visit((place, record))?;
        }
        Ok(())
    }

    pub(super) fn record(&self, at: usize) -> Record {
        let row = &self.rows[at].0;
        Record::of(json!({
            "id": row.id,
            "prompt": row.caption.trim(),
            "image": self.photographs.get(&row.image_id),
        }))
    }
}
