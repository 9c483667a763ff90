//! Records with fields of any name: the source's `fields` say which is which.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde_json::{Map, Value};

use super::super::container::{Record, kind};
use super::builder::{ExampleBuilder, INSTRUCTION, RowContext, instruction, place_pictures};
use super::conversation::{hear_answer, variables};
use super::pictures::pictures;
use super::turns::{CHAT, hear};
use crate::data::example::{Example, Talk};

/// Names of ours that a row's key of the same name fills when they are not mapped.
const CONVENTIONAL: [&str; 7] = ["id", "prompt", "draft", "svg", "text", "image", "target"];

/// What a row must have one of: without any of them there is nothing to ask.
const ASKING: [&str; 2] = ["prompt", "draft"];

/// Keys beside a `prompt` that is a list of messages.
const OF_CHAT: [&str; 2] = ["tools", "chat_template_kwargs"];

/// What is wrong with a row that asks nothing.
pub(in crate::data::files) const NOTHING_ASKED: &str =
    "none of prompt, draft, image and images is there; map one in the source's `fields`";

/// Our names for a row's keys.
#[derive(Debug)]
pub(in crate::data::files) struct FieldMap {
    fields: Vec<Mapping>,
}

/// One of our names.
#[derive(Debug)]
struct Mapping {
    ours: String,
    /// The row's dotted key.
    key: String,
    /// Whether the config asked for it.
    asked: bool,
}

/// What a row's keys give.
#[derive(Default)]
struct MappedFields {
    fields: IndexMap<String, String>,
    talk: Talk,
    /// What the prompt shows, and what a completion is compared with.
    images: Vec<ImageSource>,
    reference: Vec<ImageSource>,
    answer: Map<String, Value>,
    rejected: Map<String, Value>,
}

impl FieldMap {
    /// `fields` maps our names to dotted keys; templates insert further keys by the names `inserted`.
    pub(in crate::data::files) fn new(
        fields: &IndexMap<String, String>,
        inserted: &[String],
    ) -> Self {
        let mapping = |ours: &str, key: &str, asked: bool| Mapping {
            ours: ours.to_owned(),
            key: key.to_owned(),
            asked,
        };
        let mapped = fields.iter().map(|(ours, key)| mapping(ours, key, true));
        let own = |name: &&str| !fields.contains_key(*name);
        let conventional = CONVENTIONAL.iter().chain(&["images"]).copied();
        let inserted = inserted.iter().map(String::as_str);
        let inserted = inserted.filter(|name| !CONVENTIONAL.contains(name) && *name != "images");
        let by_name = conventional.chain(inserted).filter(own);
        Self {
            fields: mapped
                .chain(by_name.map(|name| mapping(name, name, false)))
                .collect(),
        }
    }

    /// Whether a row's key is read.
    pub(super) fn uses(&self, name: &str) -> bool {
        let of = |mapping: &Mapping| {
            let first = mapping.key.split('.').next();
            mapping.key == name || first == Some(name)
        };
        self.fields.iter().any(of) || OF_CHAT.contains(&name)
    }

    /// The example of one record, or what is wrong with it.
    pub(in crate::data::files) fn example(
        &self,
        record: Record,
        context: &RowContext,
    ) -> Result<Example, String> {
        let mut found = MappedFields::default();
        for mapping in &self.fields {
            self.take(mapping, &record, context, &mut found)?;
        }
        let MappedFields {
            mut fields,
            mut talk,
            images,
            reference,
            answer,
            rejected,
        } = found;
        if reference.len() > 1 {
            return Err(format!(
                "key `{}` (for `image`) holds {} pictures: the reference is one",
                self.key_of("image"),
                reference.len()
            ));
        }
        let asks = ASKING.iter().any(|name| fields.contains_key(*name));
        if !asks && images.is_empty() && reference.is_empty() && !record.without_bytes {
            return Err(NOTHING_ASKED.to_owned());
        }
        talk.answer = answer;
        if self
            .fields
            .iter()
            .any(|mapping| mapping.asked && mapping.ours == "system")
        {
            talk.system = fields.get("system").cloned();
        }
        // Templates of one's own may have places besides: they are counted when the prompt is made.
        if talk.whole_question
            && !record.without_bytes
            && let Some(question) = fields.get("prompt")
        {
            place_pictures(&mut talk, question, images.len())?;
        }
        let id = fields.shift_remove("id");
        let target = fields.shift_remove("target");
        let svg = fields.shift_remove("svg");
        let mut text = fields.shift_remove("text");
        // A wrapped question is about its caption, whoever wrote the row.
        if text.is_none() && (svg.is_some() || !reference.is_empty()) {
            let question = fields.get("prompt").filter(|own| own.contains(INSTRUCTION));
            text = question.map(|question| instruction(question).to_owned());
        }
        let reference = Reference {
            svg,
            text,
            image: reference.into_iter().next(),
            draft: None,
        };
        let target = target
            .or_else(|| reference.svg.clone())
            .or_else(|| reference.text.clone());
        let built = ExampleBuilder {
            talk,
            id: id.unwrap_or_else(|| context.default_id.clone()),
            fields,
            images,
            reference,
            target,
        };
        let mut example = built.finish();
        example.rejected = rejected;
        Ok(example)
    }

    fn key_of(&self, ours: &str) -> &str {
        let mapping = self.fields.iter().find(|mapping| mapping.ours == ours);
        mapping.map_or("", |mapping| &mapping.key)
    }

    /// Takes what one of our names stands for.
    fn take(
        &self,
        mapping: &Mapping,
        record: &Record,
        context: &RowContext,
        found: &mut MappedFields,
    ) -> Result<(), String> {
        let Mapping { ours, key, asked } = mapping;
        let value = lookup(&record.value, key).filter(|value| !value.is_null());
        let pictured = matches!(ours.as_str(), "image" | "images");
        let Some(value) = value else {
            return match *asked && !(pictured && record.without_bytes) {
                true => Err(format!("key `{key}` (for `{ours}`) is missing")),
                false => Ok(()),
            };
        };
        if pictured {
            let shown = pictures(record, value, (key, context.media))?;
            if shown.is_empty() && *asked && !record.without_bytes {
                return Err(format!("key `{key}` (for `{ours}`) holds no picture"));
            }
            match ours.as_str() {
                "image" => found.reference = shown,
                _ => found.images.extend(shown),
            }
            return Ok(());
        }
        let text = match (value, ours.as_str()) {
            (Value::String(text), _) => text.clone(),
            (list @ Value::Array(_), "prompt") => {
                let spoken = hear(record, list, (key, CHAT), context.media)?.spoken(key)?;
                if spoken.answer.is_some() {
                    return Err(format!(
                        "key `{key}`: a prompt ends with a question; its answer is the `target`"
                    ));
                }
                found.images.extend(spoken.images);
                found.talk = spoken.talk;
                found.talk.variables = variables(&record.value)?;
                spoken.question
            }
            (list @ Value::Array(_), "target") => {
                let answer = hear_answer(record, list, (key, CHAT), context)?;
                found.answer = answer.more;
                answer.words.unwrap_or_default()
            }
            (list @ Value::Array(_), "rejected") => {
                let answer = hear_answer(record, list, (key, CHAT), context)?;
                found.rejected = answer.more;
                answer.words.unwrap_or_default()
            }
            (Value::Number(number), name) if name == "id" || !CONVENTIONAL.contains(&name) => {
                number.to_string()
            }
            (Value::Bool(truth), name) if !CONVENTIONAL.contains(&name) => truth.to_string(),
            (other, name) if CONVENTIONAL.contains(&name) || record.bytes(other).is_some() => {
                return Err(format!(
                    "key `{key}` (for `{ours}`) must be a string, is {}",
                    kind(other)
                ));
            }
            // What a template inserts may be of any kind.
            (other, _) => other.to_string(),
        };
        if text.trim().is_empty() && (*asked || CONVENTIONAL.contains(&ours.as_str())) {
            return Err(format!("key `{key}` (for `{ours}`) is empty"));
        }
        found.fields.insert(ours.clone(), text);
        Ok(())
    }
}

/// A key as it stands, else its dotted parts through objects and lists.
pub(super) fn lookup<'a>(row: &'a Value, key: &str) -> Option<&'a Value> {
    row.get(key).or_else(|| {
        key.split('.').try_fold(row, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            other => other.get(part),
        })
    })
}
