//! configs/REFERENCE.md: every key with type, default and meaning, from the schema. The
//! sentences are the doc comments of the config types.

use std::collections::HashSet;
use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::Value;

use super::schema::{alternatives, properties, resolve, schema, sections, tagged, types, words};

/// The reference of all keys of `T` in Markdown. `NAME` stands for a name of the user's,
/// `N` for a list index.
pub fn reference_markdown<T: JsonSchema>() -> String {
    let root = schema::<T>();
    let mut writer = ReferenceWriter {
        root: &root,
        out: String::from(
            "# Config reference\n\nGenerated from the config types by `svgrl reference`; do \
             not edit. `NAME` stands for a name of your own, `N` for a place in a list.\n",
        ),
        open: HashSet::new(),
    };
    writer.section("", &root, description(&root));
    writer.out
}

struct ReferenceWriter<'a> {
    root: &'a Value,
    out: String,
    /// Definitions being written: a type inside itself is not followed again.
    open: HashSet<String>,
}

/// A part of the config that gets a table of its own.
struct Inner<'a> {
    path: String,
    schema: &'a Value,
    about: String,
}

impl<'a> ReferenceWriter<'a> {
    /// A heading, what the section is about, its table, and the sections inside it.
    fn section(&mut self, path: &str, schema: &'a Value, about: String) {
        let identity = schema
            .get("$ref")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if let Some(identity) = &identity
            && !self.open.insert(identity.clone())
        {
            return;
        }
        let resolved = resolve(self.root, schema);
        let mut all = self.variants(resolved);
        if let Some(sections) = sections(self.root, &all) {
            all = sections;
        }
        if let Some((tag, branches)) = tagged(&all) {
            for branch in branches {
                let path = format!("{path} ({tag}: {})", branch.tag);
                let about = match description(branch.schema) {
                    own if own.is_empty() => about.clone(),
                    own => own,
                };
                self.table(&path, branch.schema, &about);
            }
        } else if let [only] = all.as_slice() {
            self.table(path, only, &about);
        } else {
            self.table(path, resolved, &about);
        }
        if let Some(identity) = identity {
            self.open.remove(&identity);
        }
    }

    fn table(&mut self, path: &str, schema: &'a Value, about: &str) {
        let Some(named) = properties(schema) else {
            return;
        };
        let heading = if path.is_empty() { "top level" } else { path };
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "\n## {heading}\n");
        if !about.is_empty() {
            let _ = writeln!(self.out, "{about}\n");
        }
        let _ = writeln!(
            self.out,
            "| key | type | default | meaning |\n|---|---|---|---|"
        );
        let base = path.split(" (").next().unwrap_or(path);
        let mut inner = Vec::new();
        for (key, property) in named {
            let resolved = resolve(self.root, property);
            let mut about = description(property);
            if about.is_empty() {
                about = match property.get("const") {
                    Some(_) => "Selects these keys.".to_owned(),
                    None => description(resolved),
                };
            }
            let default = property.get("default");
            let _ = writeln!(
                self.out,
                "| `{key}` | {} | {} | {} |",
                cell(&self.kind(property)),
                cell(&default.map_or_else(String::new, shown)),
                cell(&self.meaning(property, &about)),
            );
            let path = match base {
                "" => key.clone(),
                base => format!("{base}.{key}"),
            };
            self.inner(path, property, about, &mut inner);
        }
        for part in inner {
            self.section(&part.path, part.schema, part.about);
        }
    }

    /// The part of a property that has keys of its own: itself, a list's element, a map's.
    fn inner(&self, path: String, schema: &'a Value, about: String, found: &mut Vec<Inner<'a>>) {
        let resolved = resolve(self.root, schema);
        if let Some(items) = resolved.get("items") {
            return self.inner(format!("{path}.N"), items, about, found);
        }
        if let Some(values) = resolved
            .get("additionalProperties")
            .filter(|s| s.is_object())
        {
            return self.inner(format!("{path}.NAME"), values, about, found);
        }
        let variants = self.variants(resolved);
        let has_keys = properties(resolved).is_some()
            || variants.iter().any(|variant| properties(variant).is_some())
            || sections(self.root, &variants).is_some();
        if has_keys {
            found.push(Inner {
                path,
                schema,
                about,
            });
        }
    }

    /// Alternatives other than null, optional ones opened up.
    fn variants(&self, schema: &'a Value) -> Vec<&'a Value> {
        let mut variants: Vec<&Value> = alternatives(self.root, schema)
            .into_iter()
            .filter(|variant| types(variant) != ["null"])
            .collect();
        if let [only] = variants.as_slice() {
            let deeper = self.variants(only);
            if !deeper.is_empty() {
                variants = deeper;
            }
        }
        variants
    }

    fn kind(&self, schema: &'a Value) -> String {
        let schema = resolve(self.root, schema);
        if let Some(words) = words(self.root, schema) {
            return format!("`{}`", words.join("` \\| `"));
        }
        let variants = self.variants(schema);
        if let Some((tag, branches)) = tagged(&variants) {
            let tags: Vec<&str> = branches.iter().map(|branch| branch.tag).collect();
            return format!("section by `{tag}`: `{}`", tags.join("`, `"));
        }
        let all_words: Option<Vec<_>> = variants.iter().map(|v| words(self.root, v)).collect();
        if let Some(lists) = all_words.filter(|lists| !lists.is_empty()) {
            return format!("`{}`", lists.concat().join("` \\| `"));
        }
        if !variants.is_empty() {
            let mut kinds: Vec<String> = variants.iter().map(|v| self.kind(v)).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
        if let Some(items) = schema.get("items") {
            return format!("list of {}", self.kind(items));
        }
        if let Some(values) = schema.get("additionalProperties").filter(|s| s.is_object()) {
            return format!("names to {}", self.kind(values));
        }
        let names: Vec<&str> = types(schema)
            .into_iter()
            .filter_map(|name| match name {
                "object" => Some("section"),
                "array" => Some("list"),
                "boolean" => Some("boolean"),
                "integer" => Some("integer"),
                "null" => None,
                other => Some(other),
            })
            .collect();
        names.join(" or ")
    }

    /// The sentence of a key, with those of its words where they have any.
    fn meaning(&self, property: &'a Value, about: &str) -> String {
        let mut text = about.to_owned();
        let mut schema = resolve(self.root, property);
        if let [only] = self.variants(schema).as_slice() {
            schema = only;
        }
        for variant in self.variants(schema) {
            let (Some(word), own) = (
                variant.get("const").and_then(Value::as_str),
                description(variant),
            ) else {
                continue;
            };
            if !own.is_empty() && !about.contains(&format!("`{word}`")) {
                let _ = write!(text, " `{word}`: {own}");
            }
        }
        text
    }
}

fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str);
    text.unwrap_or_default().replace('\n', " ")
}

/// A default on one line; sections show none, their keys do.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Object(map) if !map.is_empty() => String::new(),
        Value::Object(_) => "empty".to_owned(),
        Value::Array(list) if list.is_empty() => "empty".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// Text that stays inside its table cell.
fn cell(text: &str) -> String {
    let mut out = String::new();
    let mut escaped = false;
    for c in text.chars() {
        if c == '|' && !escaped {
            out.push('\\');
        }
        escaped = c == '\\';
        out.push(c);
    }
    out
}
