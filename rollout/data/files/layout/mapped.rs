//! Records with fields of any name: the source's `fields` say which is which.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde_json::Value;

use super::super::container::{Record, kind};
use super::builder::{ExampleBuilder, RowContext, images, picture};
use crate::data::example::Example;

/// Names of ours that a row's key of the same name fills when they are not mapped.
const CONVENTIONAL: [&str; 7] = ["id", "prompt", "draft", "svg", "text", "image", "target"];

/// What a row must have one of: without any of them there is nothing to ask.
const ASKING: [&str; 3] = ["prompt", "draft", "image"];

/// What is wrong with a row that asks nothing.
pub(in crate::data::files) const NOTHING_ASKED: &str =
    "none of prompt, draft, image and images is there; map one in the source's `fields`";

/// Our names for a row's keys.
#[derive(Debug)]
pub(in crate::data::files) struct FieldMap {
    /// Our name, the row's dotted key, and whether the config asked for it.
    fields: Vec<(String, String, bool)>,
    /// The row's key of the prompt's pictures, and whether the config asked for it.
    images: (String, bool),
}

impl FieldMap {
    /// `fields` maps our names to dotted keys.
    pub(in crate::data::files) fn new(fields: &IndexMap<String, String>) -> Self {
        let mapped = fields
            .iter()
            .filter(|(ours, _)| *ours != "images")
            .map(|(ours, key)| (ours.clone(), key.clone(), true));
        let conventional = CONVENTIONAL
            .iter()
            .filter(|name| !fields.contains_key(**name))
            .map(|name| ((*name).to_owned(), (*name).to_owned(), false));
        let images = fields.get("images");
        Self {
            fields: mapped.chain(conventional).collect(),
            images: (
                images.map_or("images", String::as_str).to_owned(),
                images.is_some(),
            ),
        }
    }

    /// The example of one record, or what is wrong with it.
    pub(in crate::data::files) fn example(
        &self,
        record: Record,
        context: &RowContext,
    ) -> Result<Example, String> {
        let mut found = self.collect(&record)?;
        let images = self.pictures(&record, context)?;
        let reference_picture = self.reference_picture(&record, &mut found, context);
        let asks = ASKING.iter().any(|name| found.contains_key(*name));
        if !asks && images.is_empty() && reference_picture.is_none() && !record.without_pictures {
            return Err(NOTHING_ASKED.to_owned());
        }
        let id = found.shift_remove("id");
        let target = found.shift_remove("target");
        let reference = Reference {
            svg: found.shift_remove("svg"),
            text: found.shift_remove("text"),
            image: reference_picture,
            draft: None,
        };
        let target = target
            .or_else(|| reference.svg.clone())
            .or_else(|| reference.text.clone());
        let built = ExampleBuilder {
            whole_question: false,
            history: Vec::new(),
            id: id.unwrap_or_else(|| context.default_id.clone()),
            fields: found,
            images,
            reference,
            target,
        };
        Ok(built.finish())
    }

    /// The prompt's pictures: embedded in the column, or files.
    fn pictures(&self, record: &Record, context: &RowContext) -> Result<Vec<ImageSource>, String> {
        let (key, asked) = &self.images;
        if let Some(bytes) = picture(record, key) {
            return Ok(vec![ImageSource::Png(bytes)]);
        }
        let Some(value) = lookup(&record.value, key).filter(|value| !value.is_null()) else {
            return match *asked && !record.without_pictures {
                true => Err(format!("key `{key}` (for `images`) is missing")),
                false => Ok(Vec::new()),
            };
        };
        images(&serde_json::json!({"images": value}), context.media)
            .map_err(|problem| problem.replacen("`images`", &format!("`{key}`"), 1))
    }

    fn reference_picture(
        &self,
        record: &Record,
        found: &mut IndexMap<String, String>,
        context: &RowContext,
    ) -> Option<ImageSource> {
        let key = self.fields.iter().find(|(ours, ..)| ours == "image");
        let embedded = key.and_then(|(_, key, _)| picture(record, key));
        let path = found.shift_remove("image");
        embedded
            .map(ImageSource::Png)
            .or_else(|| path.map(|path| ImageSource::Path(context.media.join(path))))
    }

    fn collect(&self, record: &Record) -> Result<IndexMap<String, String>, String> {
        let mut found = IndexMap::new();
        for (ours, key, asked) in &self.fields {
            let embedded =
                ours == "image" && (record.without_pictures || picture(record, key).is_some());
            let text = match lookup(&record.value, key) {
                None | Some(Value::Null) if *asked && !embedded => {
                    return Err(format!("key `{key}` (for `{ours}`) is missing"));
                }
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) if ours == "id" => number.to_string(),
                Some(other) => {
                    return Err(format!(
                        "key `{key}` (for `{ours}`) must be a string, is {}",
                        kind(other)
                    ));
                }
            };
            if text.trim().is_empty() && (*asked || CONVENTIONAL.contains(&ours.as_str())) {
                return Err(format!("key `{key}` (for `{ours}`) is empty"));
            }
            found.insert(ours.clone(), text);
        }
        Ok(found)
    }
}

/// A key as it stands, else its dotted parts through objects and lists.
fn lookup<'a>(row: &'a Value, key: &str) -> Option<&'a Value> {
    row.get(key).or_else(|| {
        key.split('.').try_fold(row, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            other => other.get(part),
        })
    })
}
