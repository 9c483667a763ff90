//! A config over its base: mappings merge key by key, scalars and lists replace. Two things need the schema. A section
//! whose tag (`type`, `format`, `algorithm`) says another kind replaces the base's whole, for their keys are not the
//! same ones. The stages are found by their names: those that the upper file does not name stay as they are.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::check::{ConfigProblem, by_name};
use super::nearest::nearest;
use super::schema::{Branch, alternatives, properties, resolve, sections, tagged, types};
use super::yaml::{Node, NodeKind, Origin};

/// The list whose elements are found by name.
const STAGES: &str = "stages";

/// Keys of a stage that say the same thing in two ways: the one that is given takes the other's place.
const EITHER: [(&str, &str); 2] = [("steps", "epochs"), ("epochs", "steps")];

/// Keys of a mapping with their places.
type Entries = IndexMap<String, (Origin, Node)>;

/// `own` over `base`, by the schema `root` of the whole.
///
/// # Errors
/// A stage that the base does not have, or that stands twice.
pub(super) fn merge(root: &Value, base: Node, own: Node) -> Result<Node, ConfigProblem> {
    Merge { root }.node(Some(root), base, own, "")
}

/// The key whose place a key of the section at `path` takes, where there is such.
pub(super) fn other_of(path: &[&str], key: &str) -> Option<&'static str> {
    let is_stage = matches!(path, [STAGES, _]);
    let pair = EITHER.iter().find(|(given, _)| is_stage && *given == key)?;
    Some(pair.1)
}

struct Merge<'a> {
    root: &'a Value,
}

/// What the schema says of a mapping.
enum SectionSchema<'a> {
    /// One set of keys.
    Plain(&'a Value),
    /// A set of keys for each value of a tag.
    Tagged(&'a str, Vec<Branch<'a>>),
    /// Nothing that helps.
    Unknown,
}

impl<'a> Merge<'a> {
    fn node(
        &self,
        schema: Option<&'a Value>,
        base: Node,
        own: Node,
        path: &str,
    ) -> Result<Node, ConfigProblem> {
        let origin = own.origin;
        let kind = match (base.kind, own.kind) {
            (NodeKind::Map(below), NodeKind::Map(above)) => {
                self.section(schema, below, above, path)?
            }
            (NodeKind::List(below), NodeKind::List(above)) if path == STAGES => {
                NodeKind::List(self.stages(schema, below, above)?)
            }
            (_, above) => above,
        };
        Ok(Node { origin, kind })
    }

    fn section(
        &self,
        schema: Option<&'a Value>,
        below: Entries,
        above: Entries,
        path: &str,
    ) -> Result<NodeKind, ConfigProblem> {
        let keys = match schema.map_or(SectionSchema::Unknown, |schema| self.schema_of(schema)) {
            SectionSchema::Plain(keys) => Some(keys),
            SectionSchema::Tagged(tag, branches) => {
                let (was, is) = (word(&below, tag), word(&above, tag));
                if is.is_some() && is != was {
                    return Ok(NodeKind::Map(above));
                }
                let branch = branches.iter().find(|branch| Some(branch.tag) == was);
                branch.map(|branch| branch.schema)
            }
            SectionSchema::Unknown => None,
        };
        let named = keys.and_then(properties);
        let place: Vec<&str> = path.split('.').collect();
        let mut merged = below;
        for other in above.keys().filter_map(|key| other_of(&place, key)) {
            merged.shift_remove(other);
        }
        for (key, (origin, node)) in above {
            let inner = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            let same = |known: &&String| today(named, known) == today(named, &key);
            let Some(known) = merged.keys().find(same).cloned() else {
                merged.insert(key, (origin, node));
                continue;
            };
            let schema = keys.and_then(|keys| child(keys, &key));
            let Some((at, _, (_, before))) = merged.shift_remove_full(&known) else {
                continue;
            };
            let node = self.node(schema, before, node, &inner)?;
            merged.shift_insert(at, key, (origin, node));
        }
        Ok(NodeKind::Map(merged))
    }

    fn stages(
        &self,
        schema: Option<&'a Value>,
        below: Vec<Node>,
        above: Vec<Node>,
    ) -> Result<Vec<Node>, ConfigProblem> {
        let element = schema.and_then(|schema| resolve(self.root, schema).get("items"));
        let mut merged = below;
        let mut seen = HashSet::new();
        for (index, stage) in above.into_iter().enumerate() {
            let wrong = |key: &str, problem: String| ConfigProblem {
                origin: stage.child(key).map_or(stage.origin, |node| node.origin),
                path: format!(
                    "{STAGES}.{index}{}{key}",
                    if key.is_empty() { "" } else { "." }
                ),
                problem,
            };
            let known: Vec<&str> = merged.iter().filter_map(Node::name).collect();
            let listed = known.join(", ");
            let Some(name) = stage.name().map(str::to_owned) else {
                let problem = format!(
                    "needs the `name` of the base's stage that it changes; there are {listed}"
                );
                return Err(wrong("", problem));
            };
            let Some(at) = known.iter().position(|known| *known == name) else {
                let near = nearest(&name, known.iter().copied());
                let problem = match near {
                    Some(near) => {
                        format!("the base has no stage `{name}`; did you mean `{near}`?")
                    }
                    None => format!("the base has no stage `{name}`; there are {listed}"),
                };
                return Err(wrong("name", problem));
            };
            if !seen.insert(at) {
                return Err(wrong("name", format!("`{name}` stands twice")));
            }
            let before = std::mem::replace(&mut merged[at], Node::empty(stage.origin));
            merged[at] = self.node(element, before, stage, &format!("{STAGES}.{at}"))?;
        }
        Ok(merged)
    }

    fn schema_of(&self, schema: &'a Value) -> SectionSchema<'a> {
        let schema = resolve(self.root, schema);
        let mut all: Vec<&Value> = alternatives(self.root, schema)
            .into_iter()
            .filter(|schema| types(schema) != ["null"])
            .collect();
        if all.is_empty() {
            return SectionSchema::Plain(schema);
        }
        if let Some(sections) = sections(self.root, &all) {
            all = sections;
        }
        if let [only] = all.as_slice() {
            return self.schema_of(only);
        }
        match tagged(&all) {
            Some((tag, branches)) => SectionSchema::Tagged(tag, branches),
            None => SectionSchema::Unknown,
        }
    }
}

/// The value of a key that holds a word.
fn word<'a>(map: &'a Entries, key: &str) -> Option<&'a str> {
    match &map.get(key)?.1.kind {
        NodeKind::Scalar(Value::String(word)) => Some(word),
        _ => None,
    }
}

/// The name that a property has today, for one that once had another.
fn today<'a>(named: Option<&'a Map<String, Value>>, key: &'a str) -> &'a str {
    let Some(named) = named.filter(|named| !named.contains_key(key)) else {
        return key;
    };
    let property = by_name(named, key);
    let names = named
        .iter()
        .find(|(_, known)| property.is_some_and(|property| std::ptr::eq(property, *known)));
    names.map_or(key, |(name, _)| name)
}

/// The schema of a key of an object schema.
fn child<'a>(keys: &'a Value, key: &str) -> Option<&'a Value> {
    let named = properties(keys).and_then(|named| by_name(named, key));
    named.or_else(|| keys.get("additionalProperties").filter(|s| s.is_object()))
}
