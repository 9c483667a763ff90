//! Leaving out what is not drawn: names nobody refers to, definitions nobody uses, empty groups, and
//! groups that say nothing.

use super::names;
use super::tree::{Child, Element, references};
use std::collections::HashSet;

/// Rounds of dropping: definitions that only unused ones refer to fall a round later, and a chain of
/// thousands of them is an attack.
const ROUNDS: usize = 64;

/// Drops unused ids and definitions until nothing more falls away.
pub(super) fn unused(root: &mut Element) {
    for _ in 0..ROUNDS {
        let mut used: HashSet<String> = HashSet::new();
        root.visit(&mut |element| {
            for (name, value) in &element.attributes {
                used.extend(references(name, value).into_iter().map(str::to_owned));
            }
        });
        if !drop_unused(root, &used) {
            return;
        }
    }
}

/// Whether anything changed.
fn drop_unused(element: &mut Element, used: &HashSet<String>) -> bool {
    let mut changed = false;
    if element.get("id").is_some_and(|id| !used.contains(id)) {
        element.take("id");
        changed = true;
    }
    for child in element.elements_mut() {
        changed |= drop_unused(child, used);
    }
    let in_defs = element.name == "defs";
    let before = element.children.len();
    let named = |element: &Element| element.any(&|inner| inner.get("id").is_some());
    element.children.retain(|child| match child {
        Child::Text(_) => true,
        Child::Element(child) => {
            let referred = names::REFERRED.contains(&child.name.as_str());
            let reached = match referred || in_defs {
                true => child.name == "style" || named(child),
                false => true,
            };
            reached && !is_empty(child)
        }
    });
    changed || element.children.len() < before
}

/// A group or list of definitions that holds nothing; a filter may draw for an empty group.
fn is_empty(element: &Element) -> bool {
    let holds = matches!(element.name.as_str(), "g" | "defs");
    let bare = ["filter", "id"]
        .iter()
        .all(|name| element.get(name).is_none());
    holds && element.children.is_empty() && bare
}

/// Puts the children of groups without attributes in their places. Groups in a `clipPath` draw
/// nothing, so they stay.
pub(super) fn bare_groups(element: &mut Element) {
    if matches!(element.name.as_str(), "clipPath" | "switch") {
        return;
    }
    let children = std::mem::take(&mut element.children);
    for child in children {
        match child {
            Child::Element(mut inner) => {
                bare_groups(&mut inner);
                match inner.name == "g" && inner.attributes.is_empty() {
                    true => element.children.append(&mut inner.children),
                    false => element.children.push(Child::Element(inner)),
                }
            }
            text => element.children.push(text),
        }
    }
}
