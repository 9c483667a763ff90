//! What a record means: one file for each published layout.
//!
//! A layout turns a record into an [`Example`] or says what is wrong with it; files, places and
//! tasks are not its business.

mod alpaca;
mod builder;
mod conversation;
mod conversation_row;
mod described;
mod mapped;
mod pictures;
mod row;
mod turns;
mod vectorgym;

pub(super) use builder::RowContext;
pub use conversation_row::conversation_row;
pub(super) use mapped::{FieldMap, NOTHING_ASKED};
pub use row::{RowMessages, row_messages, row_pictures, row_variables};

use serde_json::Value;

use super::container::{Record, kind};
use crate::data::config::{AnswerPart, FileConfig, SourceConfig, VectorGymView};
use crate::data::error::DataError;
use crate::data::example::Example;

/// How a source's records are read.
#[derive(Debug)]
pub(super) struct Layout {
    form: LayoutForm,
    /// Names that the task's templates insert.
    inserted: Vec<String>,
    answer: AnswerPart,
}

#[derive(Debug)]
enum LayoutForm {
    Mapped(FieldMap),
    Alpaca,
    Sharegpt,
    Messages,
    Dpo,
    Described,
    Vectorgym(VectorGymView),
}

impl Layout {
    /// The layout of `source`, whose file options are `file` and whose task's templates insert `inserted`.
    pub(super) fn of(
        source: &SourceConfig,
        file: &FileConfig,
        key: &str,
        inserted: &[String],
    ) -> Result<Self, DataError> {
        Ok(Self {
            form: LayoutForm::of(source, file, key, inserted)?,
            inserted: inserted.to_vec(),
            answer: file.answer,
        })
    }

    /// The layout of pairs, for a task whose templates insert `inserted`.
    pub(super) fn of_pairs(inserted: &[String]) -> Self {
        Self {
            form: LayoutForm::Dpo,
            inserted: inserted.to_vec(),
            answer: AnswerPart::Whole,
        }
    }

    /// Whether a key of a record, or a column, is read.
    pub(super) fn uses(&self, name: &str) -> bool {
        if self.inserted.iter().any(|inserted| inserted == name) {
            return true;
        }
        let of = |keys: &[&[&str]]| keys.iter().any(|keys| keys.contains(&name));
        let (row, images) = (&conversation::KEYS[..], &builder::IMAGES[..]);
        match &self.form {
            LayoutForm::Mapped(fields) => fields.uses(name),
            LayoutForm::Alpaca => of(&[&alpaca::KEYS, images]),
            LayoutForm::Sharegpt => of(&[row, images, &[conversation::CONVERSATIONS]]),
            LayoutForm::Messages => of(&[row, images, &[conversation::MESSAGES]]),
            LayoutForm::Dpo => {
                let lists = [conversation::CONVERSATIONS, conversation::MESSAGES];
                of(&[
                    row,
                    images,
                    &lists,
                    &conversation::PAIR,
                    &conversation::MADE,
                ])
            }
            LayoutForm::Described => of(&[&described::KEYS]),
            LayoutForm::Vectorgym(_) => of(&[&vectorgym::KEYS]),
        }
    }

    /// The keys within a record's turns that nothing uses, by the list that they stand in.
    pub(super) fn unused_in_turns<'a>(
        &self,
        record: &'a Record,
    ) -> Option<(&'static str, Vec<&'a str>)> {
        let (key, naming) = match self.form {
            LayoutForm::Sharegpt | LayoutForm::Dpo => {
                (conversation::CONVERSATIONS, turns::SHAREGPT)
            }
            LayoutForm::Messages => (conversation::MESSAGES, turns::CHAT),
            LayoutForm::Mapped(_) => ("prompt", turns::CHAT),
            _ => return None,
        };
        let list = record.value.get(key)?.as_array()?;
        let unused = list.iter().flat_map(|turn| naming.unused(turn));
        Some((key, unused.collect()))
    }

    /// The example of a record, or what is wrong with it.
    pub(super) fn example(&self, record: Record, context: &RowContext) -> Result<Example, String> {
        let mut example = self.built(record, context)?;
        if self.answer == AnswerPart::Svg && example.reference.svg.is_some() {
            example.target = example.reference.svg.clone();
        }
        Ok(example)
    }

    fn built(&self, record: Record, context: &RowContext) -> Result<Example, String> {
        let mut inserted = Vec::new();
        for name in &self.inserted {
            if let Some(text) = insertable(&record, name)? {
                inserted.push((name.clone(), text));
            }
        }
        let mut example = match &self.form {
            LayoutForm::Mapped(fields) => return fields.example(record, context),
            LayoutForm::Alpaca => alpaca::example(&record, context),
            LayoutForm::Sharegpt => conversation::sharegpt(&record, context),
            LayoutForm::Messages => conversation::messages(&record, context),
            LayoutForm::Dpo => conversation::dpo(&record, context),
            LayoutForm::Described => described::example(&record, context),
            LayoutForm::Vectorgym(view) => vectorgym::example(record, *view, context),
        }?;
        for (name, text) in inserted {
            // What a template says in its own words is no turn besides.
            if name == "system" {
                example.talk.system = None;
            }
            example.fields.entry(name).or_insert(text);
        }
        Ok(example)
    }
}

/// A key of a record as a template inserts it: text as it is, anything else as JSON.
fn insertable(record: &Record, name: &str) -> Result<Option<String>, String> {
    match record.value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(bytes) if record.bytes(bytes).is_some() => Err(format!(
            "key `{name}` (for `{{{name}}}` of a template) must be text, is {}",
            kind(bytes)
        )),
        Some(other) => Ok(Some(other.to_string())),
    }
}

impl LayoutForm {
    fn of(
        source: &SourceConfig,
        file: &FileConfig,
        key: &str,
        inserted: &[String],
    ) -> Result<Self, DataError> {
        let refuse = |name: &str, problem: &str| {
            Err(DataError::config(
                format!("{key}.{name}"),
                problem.to_owned(),
            ))
        };
        let mapped = matches!(
            source,
            SourceConfig::Jsonl(_)
                | SourceConfig::Csv(_)
                | SourceConfig::Parquet(_)
                | SourceConfig::Arrow(_)
        );
        if !mapped && !file.fields.is_empty() {
            return refuse(
                "fields",
                "this format's fields are fixed; only jsonl, csv, parquet and arrow map them",
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
            _ => Self::Mapped(FieldMap::new(&file.fields, inserted)),
        })
    }
}
