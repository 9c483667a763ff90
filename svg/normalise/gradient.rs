//! Gradients: coordinates in user space take in the root's scale, shares of the object stay shares.

use super::context::DocumentContext;
use super::error::Unsupported;
use super::matrix::Matrix;
use super::number::{Axis, LengthSize, fraction, length, written, written_size};
use super::tree::{Element, references};

/// Decimals of shares.
const SHARE: usize = 3;
/// Longest chain of gradients that refer to one another.
const LONGEST: usize = 16;

/// A coordinate: its name, what it is when absent, the side it runs along, whether it is a place.
type Coordinate = (&'static str, Option<&'static str>, Axis, bool);

const LINEAR: [Coordinate; 4] = [
    ("x1", Some("0%"), Axis::Width, true),
    ("y1", Some("0%"), Axis::Height, true),
    ("x2", Some("100%"), Axis::Width, true),
    ("y2", Some("0%"), Axis::Height, true),
];
const RADIAL: [Coordinate; 6] = [
    ("cx", Some("50%"), Axis::Width, true),
    ("cy", Some("50%"), Axis::Height, true),
    ("r", Some("50%"), Axis::Diagonal, false),
    ("fx", None, Axis::Width, true),
    ("fy", None, Axis::Height, true),
    ("fr", None, Axis::Diagonal, false),
];

pub(super) fn take_in(
    document: &DocumentContext,
    element: &mut Element,
) -> Result<(), Unsupported> {
    let chain = chain(document, element)?;
    let units = |own: &Element| {
        let found = own.get("gradientUnits");
        found.or_else(|| chain.iter().find_map(|above| above.get("gradientUnits")))
            == Some("userSpaceOnUse")
    };
    let in_user_space = units(element);
    let coordinates: &[Coordinate] = match element.name.as_str() {
        "linearGradient" => &LINEAR,
        _ => &RADIAL,
    };
    let places = |other: &Element| coordinates.iter().any(|c| other.get(c.0).is_some());
    if chain.iter().any(|above| places(above)) {
        // What one gradient takes from another must be in the same units and under no transform.
        let moved = |other: &Element| other.get("gradientTransform").is_some();
        let other_units = chain.iter().any(|above| {
            let own = above.get("gradientUnits").map(|u| u == "userSpaceOnUse");
            own.is_some_and(|own| own != in_user_space)
        });
        if other_units || moved(element) || chain.iter().any(|above| moved(above)) {
            return Err(Unsupported::new(
                "a gradient that takes coordinates from another",
            ));
        }
    } else if chain
        .iter()
        .any(|above| above.get("gradientTransform").is_some())
    {
        return Err(Unsupported::new(
            "a gradient that takes its transform from another",
        ));
    }
    let own = match element.take("gradientTransform") {
        Some(text) => Matrix::parse(&text)?,
        None => Matrix::IDENTITY,
    };
    if !in_user_space {
        for (name, ..) in coordinates {
            if let Some(share) = element.get(name).and_then(fraction) {
                element.set(name, written(share, SHARE));
            }
        }
        if let Some(text) = own.written(SHARE + 2) {
            element.set("gradientTransform", text);
        }
        return Ok(());
    }
    let whole = document.root.after(&own);
    let (inside, left) = match whole.is_plain() {
        true => (whole, None),
        false => {
            let left = whole.after(&document.root.inverse());
            (document.root, left.written(document.digits))
        }
    };
    for (name, absent, of, is_place) in coordinates {
        let given = chain.iter().any(|above| above.get(name).is_some());
        let text = match (element.get(name), absent) {
            (Some(text), _) => text,
            (None, Some(text)) if !given => text,
            _ => continue,
        };
        let LengthSize::User(value) = length(text, *of, document.view)? else {
            return Err(Unsupported::new(format!("a gradient's {name}={text:?}")));
        };
        let scaled = value * inside.scale();
        let text = match (*is_place, *of) {
            (true, Axis::Width) => written(scaled + inside.e, document.digits),
            (true, _) => written(scaled + inside.f, document.digits),
            (false, _) => written_size(scaled, document.digits),
        };
        element.set(name, text);
    }
    if let Some(left) = left {
        element.set("gradientTransform", left);
    }
    Ok(())
}

/// The gradients that this one takes from, nearest first.
fn chain<'a>(
    document: &'a DocumentContext,
    element: &Element,
) -> Result<Vec<&'a Element>, Unsupported> {
    let target = |element: &Element| -> Option<&'a Element> {
        let href = element.get("href")?;
        let id = *references("href", href).first()?;
        document.gradients.get(id)
    };
    let mut chain = Vec::new();
    let mut next = target(element);
    while let Some(found) = next {
        if chain.len() == LONGEST {
            return Err(Unsupported::new("gradients that refer to each other"));
        }
        chain.push(found);
        next = target(found);
    }
    Ok(chain)
}
