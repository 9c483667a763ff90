//! Where prompts come from: sources of examples, one file per format, and the order in
//! which a stage draws from them.
//!
//! A [`Catalog`] opens every source of the config's `data` section and answers for its
//! rows by number; a [`Cursor`] decides which row comes next and is all the state that a
//! checkpoint needs. Rows are rendered or tokenised elsewhere.

mod catalog;
mod config;
mod curriculum;
mod error;
mod example;
mod jsonl;
mod shapes;
pub(crate) mod shuffle;

pub use catalog::{Catalog, CheckRow, SkippedRow, SourceSummary};
pub use config::{
    CurriculumConfig, DataConfig, JsonlConfig, OnBadRow, Order, ShapesConfig, ShapesKind,
    SourceConfig, Split, TeacherNoise,
};
pub use curriculum::{Cursor, CursorState};
pub use error::DataError;
pub use example::{Draw, Example};

#[cfg(test)]
mod tests;
