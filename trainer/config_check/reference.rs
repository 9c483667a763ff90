//! configs/REFERENCE.md: every key with type, default and meaning, from the schema. The
//! sentences are the doc comments of the config types.
//!
//! A table stands once: where a type is met again its key links to the first place, and what all kinds of a section have in
//! common stands above the tables of the kinds.

use std::collections::HashMap;
use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::schema::{
    Branch, alternatives, properties, resolve, schema, sections, tagged, types, words,
};

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
        headings: HashMap::new(),
        linked: Vec::new(),
    };
    writer.section(Inner {
        path: String::new(),
        within: String::new(),
        schema: &root,
        about: description(&root),
    });
    writer.with_links()
}

struct ReferenceWriter<'a> {
    root: &'a Value,
    out: String,
    /// Headings of the sections that are written, by what they hold.
    headings: HashMap<String, String>,
    /// What the sections hold that links lead to, in the order of the links.
    linked: Vec<String>,
}

/// A part of the config that gets a table of its own.
struct Inner<'a> {
    path: String,
    /// The heading of the table that names it.
    within: String,
    schema: &'a Value,
    about: String,
}

/// Kinds of a section whose keys are the same but for the tag.
struct Kinds<'a> {
    tags: Vec<&'a str>,
    schema: &'a Value,
    /// Keys that not every kind has alike.
    own: KeyList<'a>,
}

/// Keys with their schemas.
type KeyList<'a> = Vec<(&'a String, &'a Value)>;

impl<'a> ReferenceWriter<'a> {
    /// A heading, what the section is about, its table, and the sections inside it; nothing where it stands already.
    fn section(&mut self, part: Inner<'a>) {
        let Some(heading) = self.place(&part) else {
            return;
        };
        let resolved = resolve(self.root, part.schema);
        let mut all = self.variants(resolved);
        if let Some(sections) = sections(self.root, &all) {
            all = sections;
        }
        if let Some((tag, branches)) = tagged(&all) {
            return self.union(&heading, &part, (tag, &branches));
        }
        let named = properties(resolved).or_else(|| all.iter().find_map(|kind| properties(kind)));
        if let Some(named) = named {
            self.heading(&heading, &part.about);
            self.table(&heading, &part.path, &named.iter().collect());
        }
    }

    /// A section that has kinds: what they are, what keys all have, and a table for the keys of each.
    fn union(&mut self, whole: &str, part: &Inner<'a>, (tag, branches): (&str, &[Branch<'a>])) {
        let common = common_keys(branches);
        let kinds = kinds(tag, branches, &common);
        let heading = |kinds: &Kinds| match kinds.tags.as_slice() {
            [first, _, _, _, ..] => {
                let others = kinds.tags.len() - 1;
                format!("{} ({tag}: {first} and {others} others)", part.path)
            }
            few => format!("{} ({tag}: {})", part.path, few.join(", ")),
        };
        self.heading(whole, &part.about);
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "| `{tag}` | what it is |\n|---|---|");
        for branch in branches {
            let of = kinds.iter().find(|kinds| kinds.tags.contains(&branch.tag));
            let name = match of.filter(|kinds| !kinds.own.is_empty()) {
                Some(kinds) => format!("[`{}`](#{})", branch.tag, anchor(&heading(kinds))),
                None => format!("`{}`", branch.tag),
            };
            let about = cell(&description(branch.schema));
            let _ = writeln!(self.out, "| {name} | {about} |");
        }
        if !common.is_empty() {
            let _ = writeln!(self.out, "\nKeys of every `{tag}`:\n");
            self.table(whole, &part.path, &common);
        }
        for kinds in kinds.iter().filter(|kinds| !kinds.own.is_empty()) {
            let about = match kinds.tags.len() {
                1 => description(kinds.schema),
                _ => String::new(),
            };
            let heading = heading(kinds);
            self.heading(&heading, &about);
            self.table(&heading, &part.path, &kinds.own);
        }
    }

    fn heading(&mut self, heading: &str, about: &str) {
        let _ = writeln!(self.out, "\n## {heading}\n");
        if !about.is_empty() {
            let _ = writeln!(self.out, "{about}\n");
        }
    }

    /// A row a key, and then the sections inside that stand nowhere else.
    fn table(&mut self, heading: &str, base: &str, keys: &KeyList<'a>) {
        let _ = writeln!(
            self.out,
            "| key | type | default | meaning |\n|---|---|---|---|"
        );
        let mut inner = Vec::new();
        for (key, property) in keys {
            let mut about = description(property);
            if about.is_empty() {
                about = match property.get("const") {
                    Some(_) => "Selects these keys.".to_owned(),
                    None => description(resolve(self.root, property)),
                };
            }
            let path = match base {
                "" => (*key).clone(),
                base => format!("{base}.{key}"),
            };
            let mut kind = self.kind(property);
            if let Some((path, schema)) = self.inner(path, property) {
                let link = format!("[section](#{})", mark(self.linked.len()));
                kind = kind.replacen("section", &link, 1);
                self.linked.push(self.identity(schema));
                inner.push(Inner {
                    path,
                    within: heading.to_owned(),
                    schema,
                    about: about.clone(),
                });
            }
            let default = property.get("default");
            let _ = writeln!(
                self.out,
                "| `{key}` | {} | {} | {} |",
                cell(&kind),
                cell(&default.map_or_else(String::new, shown)),
                cell(&self.meaning(property, &about)),
            );
        }
        for part in inner {
            self.section(part);
        }
    }

    /// What a section holds: the type behind references and options.
    fn identity(&self, schema: &'a Value) -> String {
        let mut held = resolve(self.root, schema);
        while let [only] = self.variants(held).as_slice() {
            held = *only;
        }
        held.to_string()
    }

    /// A heading of its own for a section; none where what it holds stands under another.
    fn place(&mut self, part: &Inner<'a>) -> Option<String> {
        let identity = self.identity(part.schema);
        if self.headings.contains_key(&identity) {
            return None;
        }
        let path = match part.path.as_str() {
            "" => "top level",
            path => path,
        };
        let taken = |heading: &String| self.headings.values().any(|other| other == heading);
        // Two types at one path, of two kinds of the section above.
        let kind = part.within.split_once(" (");
        let kind = kind.map_or("", |(_, kind)| kind.trim_end_matches(')'));
        let mut heading = path.to_owned();
        let mut copy = 1;
        while taken(&heading) {
            copy += 1;
            heading = match copy {
                2 if !kind.is_empty() => format!("{path} ({kind})"),
                _ => format!("{path} ({copy})"),
            };
        }
        self.headings.insert(identity, heading.clone());
        Some(heading)
    }

    /// The text, its links leading to where the sections came to stand.
    fn with_links(self) -> String {
        let mut text = self.out;
        for (at, identity) in self.linked.iter().enumerate() {
            let heading = self.headings.get(identity).map_or("", String::as_str);
            text = text.replace(&mark(at), &anchor(heading));
        }
        text
    }

    /// The part of a property that has keys of its own, and its path: itself, a list's element, a map's.
    fn inner(&self, path: String, schema: &'a Value) -> Option<(String, &'a Value)> {
        let resolved = resolve(self.root, schema);
        if let Some(items) = resolved.get("items") {
            return self.inner(format!("{path}.N"), items);
        }
        if let Some(values) = resolved
            .get("additionalProperties")
            .filter(|s| s.is_object())
        {
            return self.inner(format!("{path}.NAME"), values);
        }
        let variants = self.variants(resolved);
        let has_keys = properties(resolved).is_some()
            || variants.iter().any(|variant| properties(variant).is_some())
            || sections(self.root, &variants).is_some();
        has_keys.then_some((path, schema))
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

/// The keys that every kind has with the same schema, in the order of the first; none where there is one kind alone.
fn common_keys<'a>(branches: &[Branch<'a>]) -> KeyList<'a> {
    let named = |branch: &Branch<'a>| properties(branch.schema);
    let [first, others @ ..] = branches else {
        return Vec::new();
    };
    let of_first = named(first).into_iter().flatten();
    let shared = of_first.filter(|(key, property)| {
        let alike = |keys: &Map<String, Value>| keys.get(*key) == Some(*property);
        others.iter().all(|other| named(other).is_some_and(alike))
    });
    match others {
        [] => Vec::new(),
        _ => shared.collect(),
    }
}

/// The kinds with keys beyond `common` and the tag, those with the same keys together.
fn kinds<'a>(tag: &str, branches: &[Branch<'a>], common: &KeyList<'a>) -> Vec<Kinds<'a>> {
    let mut found: Vec<Kinds<'a>> = Vec::new();
    for branch in branches {
        let named = properties(branch.schema).into_iter().flatten();
        let own: KeyList = named
            .filter(|(key, _)| *key != tag && !common.iter().any(|(shared, _)| shared == key))
            .collect();
        match found.iter_mut().find(|kinds| kinds.own == own) {
            Some(kinds) => kinds.tags.push(branch.tag),
            None => found.push(Kinds {
                tags: vec![branch.tag],
                schema: branch.schema,
                own,
            }),
        }
    }
    found
}

/// What stands for the place that the link of this number leads to, until it is known.
fn mark(number: usize) -> String {
    format!("\0{number}\0")
}

/// How a link names a heading: lower case, spaces as hyphens, without other signs.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " _-".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
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
