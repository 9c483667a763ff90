//! Properties that are lengths (stroke widths, dashes, font sizes, spacing), scaled with the
//! coordinates they stand among.

use super::context::{DocumentContext, ElementContext};
use super::error::Unsupported;
use super::names;
use super::number::{Axis, LengthSize, length, written, written_size};
use super::tree::{Element, words};

/// Scales the lengths that the element declares itself.
pub(super) fn scale_own(
    document: &DocumentContext,
    element: &mut Element,
    (around, context): (&ElementContext, &ElementContext),
) -> Result<(), Unsupported> {
    if let Some(size) = element.get("font-size")
        && font_size(size)?.is_none()
    {
        // It is relative to a size that must have been scaled itself.
        has_font(&ElementContext {
            inherited: around.inherited.clone(),
            ..context.clone()
        })?;
    }
    for name in names::INHERITED_LENGTHS.iter().chain(&["baseline-shift"]) {
        if let Some(value) = element.get(name) {
            let scaled = scaled(document, name, value, context)?;
            element.set(name, scaled);
        }
    }
    Ok(())
}

/// Declares anew the inherited lengths that what is drawn in here goes by: their scale has changed.
pub(super) fn restate(
    document: &DocumentContext,
    element: &mut Element,
    context: &ElementContext,
) -> Result<(), Unsupported> {
    let inherited = |name: &str| context.inherited.get(name).map(String::as_str);
    let stroked = inherited("stroke").is_some_and(|stroke| stroke != "none");
    let writes = element.any(&|inner| inner.name == "text");
    for name in names::INHERITED_LENGTHS {
        let own = element.get(name).is_some();
        if own && !(name == "font-size" && writes) {
            continue;
        }
        let value = match name {
            "stroke-width" if lacks_width(element, stroked) => inherited(name).or(Some("1")),
            "stroke-dasharray" | "stroke-dashoffset" => inherited(name),
            "font-size" | "letter-spacing" | "word-spacing" if writes => inherited(name),
            _ => None,
        };
        let Some(value) = value else { continue };
        if name == "font-size" && font_size(value)?.is_none() {
            return Err(Unsupported::new(
                "a relative font size where the scale changes",
            ));
        }
        let scaled = scaled(document, name, value, context)?;
        element.set(name, scaled);
    }
    Ok(())
}

/// One length or a list; words stay as they are.
fn scaled(
    document: &DocumentContext,
    name: &str,
    value: &str,
    context: &ElementContext,
) -> Result<String, Unsupported> {
    let (scale, digits) = (context.matrix.scale(), document.digits_at(context.zoom));
    if name == "font-size" {
        return Ok(match font_size(value)? {
            Some(size) => written_size(size * scale, digits),
            None => value.to_owned(),
        });
    }
    // A share of the line's height, not of the viewport.
    let relative = name == "baseline-shift" && value.ends_with('%');
    if relative || value.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(value.to_owned());
    }
    let each = words(value).map(|word| {
        let text = match length(word, Axis::Diagonal, document.view)? {
            LengthSize::User(size) if name == "stroke-width" => written_size(size * scale, digits),
            LengthSize::User(size) => written(size * scale, digits),
            LengthSize::Font => {
                has_font(context)?;
                word.to_owned()
            }
        };
        Ok(text)
    });
    Ok(each.collect::<Result<Vec<_>, Unsupported>>()?.join(" "))
}

/// The size in user units; none when it is relative to the parent's.
fn font_size(value: &str) -> Result<Option<f64>, Unsupported> {
    let relative = value.ends_with(['%']) || value.ends_with("em") || value.ends_with("ex");
    if relative || matches!(value, "smaller" | "larger") {
        return Ok(None);
    }
    match length(value, Axis::Diagonal, (0.0, 0.0)) {
        Ok(LengthSize::User(size)) => Ok(Some(size)),
        _ => Err(Unsupported::new(format!("font-size={value:?}"))),
    }
}

/// Lengths in the font's size scale with it where that size is written down.
pub(super) fn has_font(context: &ElementContext) -> Result<(), Unsupported> {
    match context.inherited.contains_key("font-size") || context.matrix.scale() == 1.0 {
        true => Ok(()),
        false => Err(Unsupported::new("text without a font size")),
    }
}

/// Whether something in here is stroked with a width that neither it nor what it stands in (up to
/// this element) declares.
fn lacks_width(element: &Element, stroked: bool) -> bool {
    if element.get("stroke-width").is_some() {
        return false;
    }
    let stroked = element
        .get("stroke")
        .map_or(stroked, |stroke| stroke != "none");
    let drawn = matches!(
        element.name.as_str(),
        "path" | "rect" | "circle" | "ellipse" | "line" | "polyline" | "polygon" | "text" | "use"
    );
    (drawn && stroked) || element.elements().any(|inner| lacks_width(inner, stroked))
}
