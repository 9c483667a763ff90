//! YAML with the line of every value. Scalars follow the core schema of YAML 1.2, so `1e-3`
//! is a number and `no` a word. Anchors and aliases work; several documents, tags and merge
//! keys are refused.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde_json::{Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Line of a config file, from 1; the file by its place among those given.
    Line {
        /// Which file.
        file: usize,
        /// Which line of it.
        line: usize,
    },
    /// Number of the override.
    Set(usize),
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) kind: NodeKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeKind {
    /// Null, boolean, number or string.
    Scalar(Value),
    List(Vec<Node>),
    /// Key, place of the key, value.
    Map(IndexMap<String, (Origin, Node)>),
}

impl Node {
    /// An empty mapping.
    pub(super) fn empty(origin: Origin) -> Self {
        Self {
            origin,
            kind: NodeKind::Map(IndexMap::new()),
        }
    }

    /// The value without its places.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            NodeKind::Scalar(value) => value.clone(),
            NodeKind::List(items) => items.iter().map(Self::value).collect(),
            NodeKind::Map(map) => Value::Object(
                map.iter()
                    .map(|(key, (_, node))| (key.clone(), node.value()))
                    .collect(),
            ),
        }
    }

    /// The element that a part of a dotted key addresses: a key, an index, or the `name` of a
    /// list's element.
    pub(super) fn child(&self, part: &str) -> Option<&Self> {
        match &self.kind {
            NodeKind::Scalar(_) => None,
            NodeKind::List(items) => items.get(self.place(part)?),
            NodeKind::Map(map) => map.get(part).map(|(_, node)| node),
        }
    }

    /// The index of a list's element given as index or `name`.
    pub(super) fn place(&self, part: &str) -> Option<usize> {
        let NodeKind::List(items) = &self.kind else {
            return None;
        };
        match part.parse() {
            Ok(index) if index < items.len() => Some(index),
            _ => items.iter().position(|item| item.name() == Some(part)),
        }
    }

    /// The value of the key `name`, when it is a string; a stage or reward without one is called by
    /// its algorithm or type.
    pub(super) fn name(&self) -> Option<&str> {
        let keys = ["name", "algorithm", "type"];
        let name = keys.into_iter().find_map(|key| self.child(key))?;
        match &name.kind {
            NodeKind::Scalar(Value::String(name)) => Some(name),
            _ => None,
        }
    }
}

/// Reads one document, the file number `file` of those given. An empty text is an empty mapping. An error is a line
/// and a sentence.
pub(super) fn parse(text: &str, file: usize) -> Result<Node, (usize, String)> {
    let mut builder = Builder {
        file,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
    };
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| {
            let line = error.marker().line();
            (line, format!("not YAML: {}", error.info()))
        })?;
        let line = span.start.line();
        builder
            .take(event, line)
            .map_err(|problem| (line, problem))?;
    }
    let nothing = Node::empty(Origin::Line { file, line: 1 });
    Ok(builder.root.unwrap_or(nothing))
}

/// A scalar as the core schema reads it when it is not quoted.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let number = integer(text).or_else(|| {
        let digits = text.trim_start_matches(['-', '+']);
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.contains(|c: char| c.is_ascii_digit())
            && digits
                .chars()
                .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+'));
        numeric
            .then(|| text.parse().ok().and_then(Number::from_f64))
            .flatten()
    });
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn integer(text: &str) -> Option<Number> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(Number::from);
        }
    }
    let unsigned = text.parse::<u64>().map(Number::from);
    unsigned
        .or_else(|_| text.parse::<i64>().map(Number::from))
        .ok()
}

/// Builds the tree from the parser's events.
struct Builder {
    file: usize,
    /// Collections whose end has not come.
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
}

/// A collection whose end has not come.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value.
    pending: Option<(String, Origin)>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        let file = self.file;
        let origin = Origin::Line { file, line };
        let refuse_tag = |tag: bool| match tag {
            true => Err("YAML tags (`!...`) are not used here".to_owned()),
            false => Ok(()),
        };
        let begin = |kind| Node { origin, kind };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some())?;
                let value = match style {
                    ScalarStyle::Plain => plain(&text),
                    _ => Value::String(text.into_owned()),
                };
                if self.expects_key() {
                    let key = match value {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    return self.set_key(key, origin);
                }
                self.put(begin(NodeKind::Scalar(value)), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some())?;
                self.open(begin(NodeKind::List(Vec::new())), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some())?;
                self.open(begin(NodeKind::Map(IndexMap::new())), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.put(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.put(node, 0),
                None => Err("an alias inside its own anchor".to_owned()),
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                Err("a second YAML document; a config is one".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        self.open.last().is_some_and(|open| {
            matches!(open.node.kind, NodeKind::Map(_)) && open.pending.is_none()
        })
    }

    fn set_key(&mut self, key: String, origin: Origin) -> Result<(), String> {
        if key == "<<" {
            return Err("merge keys (`<<`) are not used here".to_owned());
        }
        if let Some(open) = self.open.last_mut() {
            if matches!(&open.node.kind, NodeKind::Map(map) if map.contains_key(&key)) {
                return Err(format!("key `{key}` stands twice in this mapping"));
            }
            open.pending = Some((key, origin));
        }
        Ok(())
    }

    fn open(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if self.expects_key() {
            return Err("a key must be a plain word".to_owned());
        }
        self.open.push(Open {
            node,
            anchor,
            pending: None,
        });
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open {
                node: parent,
                pending,
                ..
            }) => match &mut parent.kind {
                NodeKind::List(items) => items.push(node),
                NodeKind::Map(map) => match pending.take() {
                    Some((key, origin)) => {
                        map.insert(key, (origin, node));
                    }
                    None => return Err("a key must be a plain word".to_owned()),
                },
                NodeKind::Scalar(_) => {}
            },
        }
        Ok(())
    }
}
