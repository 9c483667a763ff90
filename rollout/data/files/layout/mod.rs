//! What a record means: one file for each published layout.
//!
//! A layout turns a record into an [`Example`] or says what is wrong with it; files, places and
//! tasks are not its business.

mod alpaca;
mod builder;
mod conversation;
mod described;
mod mapped;
mod vectorgym;

pub(super) use builder::RowContext;
pub(super) use mapped::{FieldMap, NOTHING_ASKED};

use super::container::Record;
use crate::data::config::{FileConfig, SourceConfig, VectorGymView};
use crate::data::error::DataError;
use crate::data::example::Example;

/// How a source's records are read.
#[derive(Debug)]
pub(super) enum Layout {
    Mapped(FieldMap),
    Alpaca,
    Sharegpt,
    Messages,
    Dpo,
    Described,
    Vectorgym(VectorGymView),
}

impl Layout {
    /// The layout of `source`, whose file options are `file`.
    pub(super) fn of(
        source: &SourceConfig,
        file: &FileConfig,
        key: &str,
    ) -> Result<Self, DataError> {
        let refuse = |name: &str, problem: &str| {
            Err(DataError::config(
                format!("{key}.{name}"),
                problem.to_owned(),
            ))
        };
        let mapped = matches!(
            source,
            SourceConfig::Jsonl(_) | SourceConfig::Csv(_) | SourceConfig::Parquet(_)
        );
        if !mapped && !file.fields.is_empty() {
            return refuse(
                "fields",
                "this format's fields are fixed; only jsonl, csv and parquet map them",
            );
        }
        match (source, file.view) {
            (SourceConfig::Vectorgym(_), Some(view)) => return Ok(Self::Vectorgym(view)),
            (SourceConfig::Vectorgym(_), None) => {
                return refuse(
                    "view",
                    "a vectorgym source needs one of sketch, edit, text, caption",
                );
            }
            (_, Some(_)) => return refuse("view", "only for format: vectorgym"),
            (_, None) => {}
        }
        Ok(match source {
            SourceConfig::Alpaca(_) => Self::Alpaca,
            SourceConfig::Sharegpt(_) => Self::Sharegpt,
            SourceConfig::Messages(_) => Self::Messages,
            SourceConfig::Dpo(_) => Self::Dpo,
            SourceConfig::Sgp(_) => Self::Described,
            _ => Self::Mapped(FieldMap::new(&file.fields)),
        })
    }

    /// The example of a record, or what is wrong with it.
    pub(super) fn example(&self, record: Record, context: &RowContext) -> Result<Example, String> {
        match self {
            Self::Mapped(fields) => fields.example(record, context),
            Self::Alpaca => alpaca::example(&record, context),
            Self::Sharegpt => conversation::sharegpt(&record, context),
            Self::Messages => conversation::messages(&record, context),
            Self::Dpo => conversation::dpo(&record, context),
            Self::Described => described::example(&record, context),
            Self::Vectorgym(view) => vectorgym::example(record, *view, context),
        }
    }
}
