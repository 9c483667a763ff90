//! From parsed XML to the tree that can be changed: elements of SVG alone, styles written out as
//! attributes, and refusals of what has no still vector form.

use super::error::NormaliseError;
use super::names;
use super::style::Sheet;
use super::tree::{Child, Element};
use crate::css_geometry::without;
use resvg::usvg::roxmltree::Node;

const SVG: &str = "http://www.w3.org/2000/svg";
const XLINK: &str = "http://www.w3.org/1999/xlink";
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The element with everything in it, styles written out as attributes.
pub(super) fn element(node: Node<'_, '_>, sheet: &Sheet<'_>) -> Result<Element, NormaliseError> {
    inside(node, sheet, false)
}

fn inside(node: Node<'_, '_>, sheet: &Sheet<'_>, in_text: bool) -> Result<Element, NormaliseError> {
    let name = match (node.tag_name().name(), in_text) {
        ("a", true) => "tspan",
        ("a", false) => "g",
        (name, _) => name,
    };
    let mut element = Element {
        name: name.to_owned(),
        ..Element::default()
    };
    let plain_link = node
        .attributes()
        .any(|a| a.name() == "href" && a.namespace().is_none());
    for attribute in node.attributes() {
        let name = match attribute.namespace() {
            None | Some(SVG) => attribute.name().to_owned(),
            // The plain attribute goes before the prefixed one.
            Some(XLINK) if attribute.name() == "href" && !plain_link => "href".into(),
            Some(XML) => format!("xml:{}", attribute.name()),
            _ => continue,
        };
        let links = name == "href" && node.tag_name().name() == "a";
        let styled = names::STYLE_ONLY.contains(&name.as_str()) || name == "style";
        if names::is_attribute(&name) && !links && !styled {
            element.set(&name, attribute.value());
        }
    }
    sheet.apply(node, &mut element);
    let text = in_text || name == "text";
    for child in node.children() {
        if child.is_text() && (text || name == "style") {
            let words = child.text().unwrap_or_default();
            let words = match name {
                // It is in attributes, and would act on the outer viewport too.
                "style" => without(words),
                _ => words.to_owned(),
            };
            element.children.push(Child::Text(words));
        }
        let tag = child.tag_name();
        if !child.is_element() || !matches!(tag.namespace(), None | Some(SVG)) {
            continue;
        }
        match tag.name() {
            "image" | "feImage" => return Err(NormaliseError::Picture),
            "foreignObject" => return Err(NormaliseError::Foreign),
            name if names::ANIMATIONS.contains(&name) => return Err(NormaliseError::Moving),
            "style" if !sheet.kept => {}
            name if names::ELEMENTS.contains(&name) => {
                let inner = inside(child, sheet, text)?;
                element.children.push(Child::Element(inner));
            }
            _ => {}
        }
    }
    Ok(element)
}
