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
mod files;
mod fingerprint;
mod made_pairs;
mod order;
mod shapes;
pub(crate) mod shuffle;
mod source;

pub use catalog::{Catalog, CheckRow, Indexing, RowUse, SkippedRow, SourceSummary};
pub use config::{
    AnswerPart, DataConfig, FileConfig, OnBadRow, ShapesConfig, ShapesKind, SourceConfig, Split,
    TeacherNoise, VectorGymView, VideoRows,
};
pub use curriculum::{Cursor, CursorState, Spread};
pub use error::{At, DataError};
pub use example::{Draw, Example, Talk, Turn};
pub use files::{
    Readable, RecordRow, Records, RowMessages, conversation_row, ending, open_unpacked, readable,
    row_messages, row_pictures, row_variables,
};
pub use order::{
    BucketedOrder, Buckets, CurriculumConfig, ObservedOrder, Order, PlainOrder, StagedOrder, Then,
};
pub use source::LeftOut;

#[cfg(test)]
mod tests;
