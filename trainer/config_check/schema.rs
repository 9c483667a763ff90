//! The JSON Schema of a config type, and how the other files read it.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The JSON Schema (draft 2020-12) of `T`, for editors and for the check.
pub fn schema<T: JsonSchema>() -> Value {
    schemars::SchemaGenerator::default()
        .into_root_schema_for::<T>()
        .to_value()
}

/// [`schema`] for editors, where a file may stand over a `base`: nothing is required, because the base may hold it, and a
/// section without its `type`, `format` or `algorithm` may be any of its kinds.
pub fn editor_schema<T: JsonSchema>() -> Value {
    let mut root = schema::<T>();
    relax(&mut root, true);
    root
}

/// Leaves out what a file over a base need not say. `is_schema` is false of a map from
/// names to schemas, whose keys are names.
fn relax(value: &mut Value, is_schema: bool) {
    match value {
        Value::Object(map) => {
            if is_schema {
                map.shift_remove("required");
                if let Some(kinds) = map.shift_remove("oneOf") {
                    map.insert("anyOf".to_owned(), kinds);
                }
            }
            for (key, inner) in map.iter_mut() {
                let of_names = is_schema && ["properties", "$defs"].contains(&key.as_str());
                let plain = is_schema && ["default", "const", "enum"].contains(&key.as_str());
                if !plain {
                    relax(inner, !of_names);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| relax(inner, true)),
        _ => {}
    }
}

/// One alternative of a tagged enum.
pub(super) struct Branch<'a> {
    /// Value of the tag.
    pub(super) tag: &'a str,
    /// Schema of the object.
    pub(super) schema: &'a Value,
}

/// The schema behind `$ref`s into `$defs` of `root`.
pub(super) fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    while let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        match root.pointer(target.trim_start_matches('#')) {
            Some(found) => schema = found,
            None => break,
        }
    }
    schema
}

/// The alternatives of a schema, resolved; empty when it is not a union.
pub(super) fn alternatives<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    ["oneOf", "anyOf"]
        .iter()
        .find_map(|word| schema.get(*word)?.as_array())
        .map(|list| list.iter().map(|item| resolve(root, item)).collect())
        .unwrap_or_default()
}

/// Tag name and branches, when every alternative is an object with one constant property
/// of the same name.
pub(super) fn tagged<'a>(alternatives: &[&'a Value]) -> Option<(&'a str, Vec<Branch<'a>>)> {
    let name = tag_of(alternatives.first()?)?.0;
    let branches = alternatives
        .iter()
        .map(|schema| {
            let (tag_name, tag) = tag_of(schema)?;
            (tag_name == name).then_some(Branch { tag, schema })
        })
        .collect::<Option<Vec<_>>>()?;
    Some((name, branches))
}

/// The tagged alternatives of a union whose others are words (`order: sorted` or
/// `order: {type: staged, ..}`); `None` for any other union.
pub(super) fn sections<'a>(root: &'a Value, all: &[&'a Value]) -> Option<Vec<&'a Value>> {
    let others: Vec<&Value> = all
        .iter()
        .copied()
        .filter(|schema| words(root, schema).is_none())
        .collect();
    let [only] = others.as_slice() else {
        return None;
    };
    let branches = alternatives(root, only);
    let mixed = others.len() < all.len();
    (mixed && tagged(&branches).is_some()).then_some(branches)
}

fn tag_of(schema: &Value) -> Option<(&str, &str)> {
    properties(schema)?.iter().find_map(|(name, property)| {
        let tag = property.get("const")?.as_str()?;
        Some((name.as_str(), tag))
    })
}

/// The named properties of an object schema.
pub(super) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// The words that a schema of plain strings allows; `None` when it allows any or other types.
pub(super) fn words<'a>(root: &'a Value, schema: &'a Value) -> Option<Vec<&'a str>> {
    if let Some(word) = schema.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return list.iter().map(Value::as_str).collect();
    }
    let alternatives = alternatives(root, schema);
    if alternatives.is_empty() {
        return None;
    }
    let words: Option<Vec<_>> = alternatives.iter().map(|s| words(root, s)).collect();
    words.map(|lists| lists.concat())
}

/// Names of JSON types that a schema lists under `type`.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}
