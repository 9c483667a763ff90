//! Attributes that say what holds anyway, and shares written with few decimals.

use super::context::ElementContext;
use super::names;
use super::number::{fraction, written};
use super::tree::Element;

/// Stroke properties that nothing shows without a stroke.
const OF_STROKES: [&str; 7] = [
    "stroke-width",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-miterlimit",
    "stroke-opacity",
];
const SHAPES: [&str; 7] = [
    "path", "rect", "circle", "ellipse", "line", "polyline", "polygon",
];

/// Drops properties that are inherited or first values, and those of strokes and fills that a shape
/// does not have.
pub(super) fn redundant(element: &mut Element, around: &ElementContext) {
    for name in ["opacity", "stop-opacity", "flood-opacity"] {
        if element.get(name).and_then(fraction) == Some(1.0) {
            element.take(name);
        }
    }
    for name in ["clip-path", "mask", "filter"] {
        if element.get(name) == Some("none") {
            element.take(name);
        }
    }
    let is_shape = SHAPES.contains(&element.name.as_str());
    let effective = |name: &str| {
        let own = element.get(name);
        own.or(around.inherited.get(name).map(String::as_str))
    };
    let unstroked = is_shape && effective("stroke").is_none_or(|stroke| stroke == "none");
    let unfilled = is_shape && effective("fill") == Some("none");
    element.attributes.retain(|(name, value)| {
        let name = name.as_str();
        if unstroked && OF_STROKES.contains(&name) {
            return false;
        }
        if unfilled && matches!(name, "fill-opacity" | "fill-rule") {
            return false;
        }
        let first = names::INHERITED.iter().find(|(known, _)| *known == name);
        match (around.inherited.get(name), first) {
            (Some(inherited), Some(_)) => inherited != value,
            (None, Some((_, first))) => first.is_empty() || first != value,
            (_, None) => true,
        }
    });
}

/// Shares of 1 with two decimals, three along a gradient.
pub(super) fn round(element: &mut Element) {
    for (name, value) in &mut element.attributes {
        if let Some(share) = fraction(value).filter(|_| names::SHARES.contains(&name.as_str())) {
            *value = written(share, if name == "offset" { 3 } else { 2 });
        }
    }
}
