//! `--set KEY=VALUE` on a parsed config.

use super::merge::other_of;
use super::nearest::nearest;
use super::yaml::{self, Node, NodeKind, Origin};

/// Puts the value of override number `index` where its dotted key says, making the mappings
/// on the way. Whether the key is a known one is found by the check of the whole.
pub(super) fn apply(root: &mut Node, set: &str, index: usize) -> Result<(), String> {
    let origin = Origin::Set(index);
    let Some((key, text)) = set.split_once('=') else {
        return Err(format!("--set {set}: expected KEY=VALUE"));
    };
    let key = key.trim();
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(format!("--set {set}: `{key}` is no dotted key"));
    }
    let mut value = yaml::parse(text, 0)
        .map_err(|(_, problem)| format!("--set {set}: the value is {problem}"))?;
    if text.trim().is_empty() {
        value.kind = NodeKind::Scalar(serde_json::Value::Null);
    }
    relocate(&mut value, origin);
    let parts: Vec<&str> = key.split('.').collect();
    if parts == ["base"] {
        return Err(format!(
            "--set {set}: the base is what a file is written over; write a small config with `base: {}`",
            text.trim()
        ));
    }
    put(root, (&parts, 0), value, origin).map_err(|problem| format!("--set {set}: {problem}"))
}

/// Sections whose keys are names of the user's own.
const NAMED: [&[&str]; 3] = [&["tasks"], &["encoders"], &["data", "sources"]];

/// Puts `value` into `node`, which is what the first `at` of `parts` lead to.
fn put(
    node: &mut Node,
    (parts, at): (&[&str], usize),
    value: Node,
    origin: Origin,
) -> Result<(), String> {
    let Some(part) = parts.get(at) else {
        *node = value;
        return Ok(());
    };
    if node.kind == NodeKind::Scalar(serde_json::Value::Null) {
        *node = Node::empty(origin);
    }
    let place = node.place(part);
    match &mut node.kind {
        NodeKind::Map(map) => {
            // Something within a name that is not there is a slip, not a new section.
            if at + 1 < parts.len()
                && NAMED.contains(&&parts[..at])
                && !map.is_empty()
                && !map.contains_key(*part)
            {
                let names: Vec<&str> = map.keys().map(String::as_str).collect();
                return Err(no_name(&parts[..at], &names, part));
            }
            if let Some(other) = other_of(&parts[..at], part) {
                map.shift_remove(other);
            }
            let entry = map
                .entry((*part).to_owned())
                .or_insert_with(|| (origin, Node::empty(origin)));
            entry.0 = origin;
            put(&mut entry.1, (parts, at + 1), value, origin)
        }
        NodeKind::List(items) => match place {
            Some(index) => put(&mut items[index], (parts, at + 1), value, origin),
            None => Err(no_element(items, part)),
        },
        NodeKind::Scalar(_) => Err(format!("`{part}` is inside a single value, not a section")),
    }
}

fn no_name(section: &[&str], names: &[&str], part: &str) -> String {
    let section = section.join(".");
    match nearest(part, names.iter().copied()) {
        Some(name) => format!("{section}: no `{part}` is there; did you mean `{name}`?"),
        None => format!(
            "{section}: no `{part}` is there; there are {}",
            names.join(", ")
        ),
    }
}

fn no_element(items: &[Node], part: &str) -> String {
    let names: Vec<&str> = items.iter().filter_map(Node::name).collect();
    let count = items.len();
    let near = nearest(part, names.iter().copied());
    match near.filter(|_| part.parse::<usize>().is_err()) {
        Some(name) => format!("no list element `{part}`; did you mean `{name}`?"),
        None => format!(
            "no list element `{part}`; there are {count}, addressed by index from 0{}",
            if names.is_empty() {
                String::new()
            } else {
                format!(" or by name: {}", names.join(", "))
            }
        ),
    }
}

fn relocate(node: &mut Node, origin: Origin) {
    node.origin = origin;
    match &mut node.kind {
        NodeKind::Scalar(_) => {}
        NodeKind::List(items) => items.iter_mut().for_each(|item| relocate(item, origin)),
        NodeKind::Map(map) => {
            for (key_origin, item) in map.values_mut() {
                *key_origin = origin;
                relocate(item, origin);
            }
        }
    }
}
