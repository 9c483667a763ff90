//! A picture's own size, from the root's width, height and viewBox, as CairoSVG decides it.
//!
//! A side is what `width` or `height` says; one that is absent, a percentage, zero or in an unknown
//! unit is the viewBox's. A side that is no number, negative, or rounds to no pixel leaves the
//! picture without a size, and so does a viewBox of fewer than four numbers. What style says of them stands in the
//! attributes by then.

use crate::prolog::RootTag;

/// Width and height in CSS pixels, and the viewBox when there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Geometry {
    pub width: f64,
    pub height: f64,
    pub has_view_box: bool,
    /// Units of the coordinate system across the picture: of the viewBox, or of the size.
    pub units: (f64, f64),
}

impl Geometry {
    /// The size of the picture, or a sentence on why it is undefined.
    pub fn of(root: &RootTag<'_>) -> Result<Self, String> {
        let view_box = match root.get("viewBox") {
            None => None,
            Some(text) if text.trim().is_empty() => None,
            Some(text) => Some(view_box(text)?),
        };
        let side = |name: &str, of_box: f64| -> Result<f64, String> {
            let written = root.get(name).unwrap_or("");
            let value =
                length(written).ok_or_else(|| format!("{name}: not a length: {written:?}"))?;
            let value = if value == 0.0 { of_box } else { value };
            let usable = value.is_finite() && value.round_ties_even() > 0.0;
            match usable {
                true => Ok(value),
                false if value == 0.0 => {
                    Err("neither width and height nor a viewBox give the picture a size".into())
                }
                false => Err(format!("{name}: must be a pixel at least, got {value}")),
            }
        };
        let inner = view_box.unwrap_or([0.0; 4]);
        let (width, height) = (side("width", inner[2])?, side("height", inner[3])?);
        // A viewBox without an area scales nothing.
        let view_box = view_box.filter(|b| b[2] > 0.0 && b[3] > 0.0);
        Ok(Geometry {
            width,
            height,
            has_view_box: view_box.is_some(),
            units: view_box.map_or((width, height), |b| (b[2], b[3])),
        })
    }

    /// Pixels of a canvas with this aspect ratio whose longer side is `longest`; no side is below 1.
    pub fn fit(&self, longest: u32) -> (u32, u32) {
        let scale = f64::from(longest) / self.width.max(self.height);
        let side = |v: f64| ((v * scale).round() as u32).clamp(1, longest);
        (side(self.width), side(self.height))
    }
}

/// A length at 96 dots an inch with a font of 16 pixels; percentages and unknown units count nothing.
/// None when the number before the unit is none.
pub(crate) fn length(text: &str) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    if let Some(value) = number(text) {
        return Some(value);
    }
    let text = spaced(text);
    let text = text.trim().split(' ').next().unwrap_or_default();
    const UNITS: [(&str, f64); 10] = [
        ("%", 0.0),
        ("em", 16.0),
        ("ex", 8.0),
        ("ch", 8.0),
        ("mm", 96.0 / 25.4),
        ("cm", 96.0 / 2.54),
        ("in", 96.0),
        ("pt", 96.0 / 72.0),
        ("pc", 16.0),
        ("px", 1.0),
    ];
    match UNITS
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))
    {
        Some((digits, scale)) => number(digits).map(|value| value * scale),
        None => Some(0.0),
    }
}

/// Several values with a space where white space, commas or a minus sign divide them.
pub(crate) fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() + 8);
    let mut previous = ' ';
    for c in text.chars().map(|c| if c == 'E' { 'e' } else { c }) {
        if c == '-' && previous != 'e' {
            spaced.push(' ');
        }
        spaced.push(if matches!(c, ',' | '\n' | '\r' | '\t') {
            ' '
        } else {
            c
        });
        previous = c;
    }
    spaced
}

/// A number as Python's `float` reads it: surrounding space and underscores between digits allowed.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    if !text.contains('_') {
        return text.parse().ok();
    }
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let between = |at: usize| digit(at.checked_sub(1)) && digit(Some(at + 1));
    let fits = bytes
        .iter()
        .enumerate()
        .all(|(at, b)| *b != b'_' || between(at));
    fits.then(|| text.replace('_', "").parse().ok())?
}

fn view_box(text: &str) -> Result<[f64; 4], String> {
    let words = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|s| !s.is_empty());
    let numbers: Option<Vec<f64>> = words.map(number).collect();
    match numbers.as_deref() {
        Some([x, y, width, height, ..])
            if [x, y, width, height].iter().all(|side| side.is_finite()) =>
        {
            Ok([*x, *y, *width, *height])
        }
        _ => Err(format!("viewBox: must be four numbers, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(attributes: &str) -> Option<(f64, f64)> {
        let source = format!("<svg {attributes}>");
        let geometry = Geometry::of(&RootTag::find(&source).unwrap());
        geometry.ok().map(|g| (g.width, g.height))
    }

    #[test]
    fn sizes_come_from_lengths_then_from_the_view_box() {
        let cases = [
            ("width='10' height='20px' viewBox='0 0 1 1'", (10.0, 20.0)),
            ("viewBox='0,0 24 12'", (24.0, 12.0)),
            ("width='48' viewBox='0 0 24 12'", (48.0, 12.0)),
            (
                "width='50%' height='100%' viewBox='0 0 24 12'",
                (24.0, 12.0),
            ),
            ("width='0' height='0' viewBox='0 0 24 12'", (24.0, 12.0)),
            ("width='auto' height='7' viewBox='0 0 24 12 3'", (24.0, 7.0)),
            ("width='1in' height='25.4mm'", (96.0, 96.0)),
            ("width='1_0' height='1in-5'", (10.0, 96.0)),
        ];
        for (attributes, expected) in cases {
            assert_eq!(size(attributes), Some(expected), "{attributes}");
        }
    }

    #[test]
    fn a_size_that_is_missing_zero_or_negative_is_undefined() {
        for attributes in [
            "",
            "width='10'",
            "width='0' height='1'",
            "width='-3' height='1'",
            "viewBox='0 0 0 1'",
            "viewBox='0 0 9'",
            "viewBox='0 0 9 9px'",
            "viewBox='0 0 9' width='9' height='9'",
            "width='0.5' height='9'",
            "width='x%' height='9' viewBox='0 0 9 9'",
            "width='1e999' height='1'",
        ] {
            assert_eq!(size(attributes), None, "{attributes}");
        }
    }

    #[test]
    fn an_extreme_aspect_keeps_a_pixel() {
        let geometry = Geometry {
            width: 1e9,
            height: 1.0,
            has_view_box: true,
            units: (1e9, 1.0),
        };
        assert_eq!(geometry.fit(224), (224, 1));
    }
}
