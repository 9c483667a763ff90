//! A parsed config against a JSON Schema as schemars makes them: unknown and missing keys,
//! wrong types, unknown words, numeric bounds. Objects with listed properties are closed.

use serde_json::{Map, Value};

use super::nearest::nearest;
use super::schema::{alternatives, properties, resolve, sections, tagged, types, words};
use super::yaml::{Node, NodeKind, Origin};

/// One mistake.
#[derive(Debug)]
pub(super) struct ConfigProblem {
    pub(super) origin: Origin,
    pub(super) path: String,
    pub(super) problem: String,
}

/// Every mistake of `node` against `root`, in file order.
pub(super) fn check(root: &Value, node: &Node) -> Vec<ConfigProblem> {
    let mut check = SchemaCheck {
        root,
        found: Vec::new(),
    };
    check.node(root, node, "");
    check.found
}

struct SchemaCheck<'a> {
    root: &'a Value,
    found: Vec<ConfigProblem>,
}

/// The property of this name, or the one that once had it.
pub(super) fn by_name<'a>(named: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let renamed = |property: &&Value| {
        let aliases = property.get("x-aliases").and_then(Value::as_array);
        aliases.is_some_and(|aliases| aliases.iter().any(|alias| alias == key))
    };
    named.get(key).or_else(|| named.values().find(renamed))
}

impl SchemaCheck<'_> {
    fn report(&mut self, origin: Origin, path: &str, problem: String) {
        self.found.push(ConfigProblem {
            origin,
            path: path.to_owned(),
            problem,
        });
    }

    fn node(&mut self, schema: &Value, node: &Node, path: &str) {
        let schema = resolve(self.root, schema);
        if schema.as_bool() == Some(true) {
            return;
        }
        if let Some(words) = words(self.root, schema) {
            return self.word(&words, node, path);
        }
        let all = alternatives(self.root, schema);
        if !all.is_empty() {
            return self.union(schema, &all, node, path);
        }
        let expected = types(schema);
        if !expected.is_empty() && !expected.iter().any(|name| fits(name, node)) {
            let problem = wrong_type(&expected, node);
            return self.report(node.origin, path, problem);
        }
        match &node.kind {
            NodeKind::Scalar(value) => self.bounds(schema, value, node.origin, path),
            NodeKind::List(items) => self.list(schema, items, node.origin, path),
            NodeKind::Map(_) => self.object(schema, node, path),
        }
    }

    fn word(&mut self, words: &[&str], node: &Node, path: &str) {
        let problem = match &node.kind {
            NodeKind::Scalar(Value::String(word)) if words.contains(&word.as_str()) => return,
            NodeKind::Scalar(Value::String(word)) => unknown_word(word, words),
            _ => format!("must be one of {}, got {}", listed(words), shown(node)),
        };
        self.report(node.origin, path, problem);
    }

    fn union(&mut self, schema: &Value, all: &[&Value], node: &Node, path: &str) {
        let nullable = all.iter().any(|schema| types(schema).contains(&"null"));
        if nullable && matches!(node.kind, NodeKind::Scalar(Value::Null)) {
            return;
        }
        let mut others: Vec<&Value> = all
            .iter()
            .copied()
            .filter(|schema| types(schema) != ["null"])
            .collect();
        // Words beside tagged sections: a mapping can only be a section, a string only a word.
        if let Some(sections) = sections(self.root, &others) {
            let known = others.iter().filter_map(|s| words(self.root, s));
            match &node.kind {
                NodeKind::Map(_) => others = sections,
                NodeKind::Scalar(Value::String(_)) => {
                    return self.word(&known.flatten().collect::<Vec<_>>(), node, path);
                }
                _ => {
                    let known = listed(&known.flatten().collect::<Vec<_>>());
                    let problem =
                        format!("must be one of {known} or a mapping, got {}", shown(node));
                    return self.report(node.origin, path, problem);
                }
            }
        }
        if let [only] = others.as_slice() {
            return self.node(only, node, path);
        }
        if let Some((name, branches)) = tagged(&others) {
            let tags: Vec<&str> = branches.iter().map(|branch| branch.tag).collect();
            let NodeKind::Map(map) = &node.kind else {
                let problem = format!(
                    "must be a mapping with `{name}` (one of {}), got {}",
                    listed(&tags),
                    shown(node)
                );
                return self.report(node.origin, path, problem);
            };
            let Some((_, tag)) = map.get(name) else {
                let problem = format!("`{name}` is missing; it is one of {}", listed(&tags));
                return self.report(node.origin, path, problem);
            };
            let chosen = match &tag.kind {
                NodeKind::Scalar(Value::String(word)) => branches.iter().find(|b| b.tag == word),
                _ => None,
            };
            return match chosen {
                Some(branch) => self.node(branch.schema, node, path),
                None => match refused(schema, tag) {
                    Some(why) => self.report(tag.origin, &join(path, name), why),
                    None => self.word(&tags, tag, &join(path, name)),
                },
            };
        }
        self.any_of(&others, node, path);
    }

    /// An untagged union: the mistakes of the one alternative whose type fits.
    fn any_of(&mut self, others: &[&Value], node: &Node, path: &str) {
        let mut closest: Option<Vec<ConfigProblem>> = None;
        for schema in others {
            let mut attempt = SchemaCheck {
                root: self.root,
                found: Vec::new(),
            };
            attempt.node(schema, node, path);
            if attempt.found.is_empty() {
                return;
            }
            let of_type = types(schema).iter().any(|name| fits(name, node));
            if of_type && closest.is_none() {
                closest = Some(attempt.found);
            }
        }
        match closest {
            Some(found) => self.found.extend(found),
            None => {
                let expected: Vec<&str> = others.iter().flat_map(|s| types(s)).collect();
                let words: Vec<&str> = others
                    .iter()
                    .filter_map(|s| words(self.root, s))
                    .flatten()
                    .collect();
                let problem = match words.is_empty() {
                    true => wrong_type(&expected, node),
                    false => format!(
                        "must be one of {} or {}, got {}",
                        listed(&words),
                        names_of(&expected),
                        shown(node)
                    ),
                };
                self.report(node.origin, path, problem);
            }
        }
    }

    fn list(&mut self, schema: &Value, items: &[Node], origin: Origin, path: &str) {
        let bound = |word| schema.get(word).and_then(Value::as_u64);
        let count = items.len() as u64;
        if let Some(least) = bound("minItems").filter(|least| count < *least) {
            self.report(origin, path, format!("needs {least} elements, has {count}"));
        }
        if let Some(most) = bound("maxItems").filter(|most| count > *most) {
            let problem = format!("takes {most} elements at most, has {count}");
            self.report(origin, path, problem);
        }
        let places = schema.get("prefixItems").and_then(Value::as_array);
        for (index, item) in items.iter().enumerate() {
            let of_place = places.and_then(|places| places.get(index));
            if let Some(element) = of_place.or_else(|| schema.get("items")) {
                self.node(element, item, &join(path, &index.to_string()));
            }
        }
    }

    fn object(&mut self, schema: &Value, node: &Node, path: &str) {
        let NodeKind::Map(map) = &node.kind else {
            return;
        };
        let named = properties(schema);
        let additional = schema.get("additionalProperties").filter(|s| s.is_object());
        for (key, (origin, value)) in map {
            let inner = join(path, key);
            match (named.and_then(|named| by_name(named, key)), additional) {
                (Some(property), _) => self.node(property, value, &inner),
                (None, Some(element)) => self.node(element, value, &inner),
                (None, None) => {
                    if let Some(named) = named {
                        let known: Vec<&str> = named.keys().map(String::as_str).collect();
                        self.report(*origin, &inner, unknown_key(key, &known));
                    }
                }
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for key in required.into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(key) {
                self.report(node.origin, &join(path, key), "is required".to_owned());
            }
        }
    }

    fn bounds(&mut self, schema: &Value, value: &Value, origin: Origin, path: &str) {
        let (Some(number), least, most) = (
            value.as_f64(),
            schema.get("minimum").and_then(Value::as_f64),
            schema.get("maximum").and_then(Value::as_f64),
        ) else {
            return;
        };
        if let Some(least) = least.filter(|least| number < *least) {
            self.report(origin, path, format!("must be >= {least}, got {value}"));
        }
        if let Some(most) = most.filter(|most| number > *most) {
            self.report(origin, path, format!("must be <= {most}, got {value}"));
        }
    }
}

/// Why a union does not take a tag that it knows of (`x-refused` of its schema): by its name, however it is written
/// and whatever follows it, such as a version.
fn refused(schema: &Value, tag: &Node) -> Option<String> {
    let NodeKind::Scalar(Value::String(word)) = &tag.kind else {
        return None;
    };
    let plain = |name: &str| -> String {
        let letters = name.chars().filter(|c| c.is_ascii_alphanumeric());
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    let named = |(name, _): &(&String, &Value)| plain(word).starts_with(&plain(name));
    let known = schema.get("x-refused")?.as_object()?.iter().filter(named);
    let why = known.max_by_key(|(name, _)| name.len())?.1.as_str()?;
    Some(format!("`{word}` is not available: {why}"))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn fits(name: &str, node: &Node) -> bool {
    match (name, &node.kind) {
        ("object", NodeKind::Map(_)) | ("array", NodeKind::List(_)) => true,
        (_, NodeKind::Map(_) | NodeKind::List(_)) => false,
        ("null", NodeKind::Scalar(value)) => value.is_null(),
        ("boolean", NodeKind::Scalar(value)) => value.is_boolean(),
        ("string", NodeKind::Scalar(value)) => value.is_string(),
        ("integer", NodeKind::Scalar(value)) => value.is_i64() || value.is_u64(),
        ("number", NodeKind::Scalar(value)) => value.is_number(),
        _ => false,
    }
}

fn wrong_type(expected: &[&str], node: &Node) -> String {
    let hint = match &node.kind {
        NodeKind::Scalar(Value::Null) => " (leave the key out for its default)",
        NodeKind::Scalar(Value::Bool(_) | Value::Number(_)) if expected.contains(&"string") => {
            " (put it in quotes)"
        }
        _ => "",
    };
    format!("must be {}, got {}{hint}", names_of(expected), shown(node))
}

fn names_of(types: &[&str]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in types {
        let name = match *name {
            "object" => "a mapping",
            "array" => "a list",
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            "string" => "a string",
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}

fn shown(node: &Node) -> String {
    match &node.kind {
        NodeKind::Map(_) => "a mapping".to_owned(),
        NodeKind::List(_) => "a list".to_owned(),
        NodeKind::Scalar(Value::Null) => "nothing".to_owned(),
        NodeKind::Scalar(value) => value.to_string(),
    }
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// Keys and words that the documents promise and that are not built.
const NOT_BUILT: [&str; 1] = ["dora"];

/// What is said of a name that this version does not know but a later one will.
fn not_built(name: &str) -> Option<String> {
    let known = NOT_BUILT.contains(&name);
    known.then(|| "not built yet".to_owned())
}

fn unknown_word(word: &str, words: &[&str]) -> String {
    if let Some(said) = not_built(word) {
        return format!("{word}: {said}; it is one of {}", listed(words));
    }
    match nearest(word, words.iter().copied()) {
        Some(near) => format!("unknown value `{word}`; did you mean `{near}`?"),
        None => format!("unknown value `{word}`; it is one of {}", listed(words)),
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    if let Some(said) = not_built(key) {
        return said;
    }
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}
