//! A picture's own size, from the root's width, height and viewBox, as CairoSVG decides it: both
//! sides must be known and positive, from width and height or from the viewBox.

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
    /// The size of the picture, or none when it is undefined.
    pub fn of(root: &RootTag<'_>) -> Option<Self> {
        let view_box = root.get("viewBox").and_then(view_box);
        let side = |name: &str, of: Option<f64>| match root.get(name).and_then(length) {
            Some(Length::Pixels(value)) => Some(value),
            Some(Length::Percent(value)) => of.map(|of| of * value / 100.0),
            None => None,
        };
        let width = side("width", view_box.map(|b| b[2]));
        let height = side("height", view_box.map(|b| b[3]));
        let (width, height) = match (width, height, view_box) {
            (Some(w), Some(h), _) => (w, h),
            (Some(w), None, Some(b)) => (w, w * b[3] / b[2]),
            (None, Some(h), Some(b)) => (h * b[2] / b[3], h),
            (None, None, Some(b)) => (b[2], b[3]),
            _ => return None,
        };
        let usable = |v: f64| v.is_finite() && v > 0.0;
        (usable(width) && usable(height)).then_some(Geometry {
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

enum Length {
    Pixels(f64),
    Percent(f64),
}

/// A length at 96 dots an inch; font-relative units count a font of 16 pixels.
fn length(text: &str) -> Option<Length> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    let value: f64 = digits.trim_end().parse().ok()?;
    let scale = match &text[digits.len()..] {
        "" | "px" => 1.0,
        "%" => return Some(Length::Percent(value)),
        "in" => 96.0,
        "cm" => 96.0 / 2.54,
        "mm" => 96.0 / 25.4,
        "pt" => 4.0 / 3.0,
        "pc" | "em" | "rem" => 16.0,
        "ex" => 8.0,
        _ => return None,
    };
    Some(Length::Pixels(value * scale))
}

fn view_box(text: &str) -> Option<[f64; 4]> {
    let mut numbers = text
        .split([' ', ',', '\t', '\n', '\r'])
        .filter(|s| !s.is_empty())
        .map(str::parse::<f64>);
    let mut next = || numbers.next()?.ok().filter(|v| v.is_finite());
    let values = [next()?, next()?, next()?, next()?];
    (values[2] > 0.0 && values[3] > 0.0 && numbers.next().is_none()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(attributes: &str) -> Option<(f64, f64)> {
        let source = format!("<svg {attributes}>");
        Geometry::of(&RootTag::find(&source).unwrap()).map(|g| (g.width, g.height))
    }

    #[test]
    fn sizes_come_from_lengths_then_from_the_view_box() {
        assert_eq!(
            size("width='10' height='20px' viewBox='0 0 1 1'"),
            Some((10.0, 20.0))
        );
        assert_eq!(size("viewBox='0,0 24 12'"), Some((24.0, 12.0)));
        assert_eq!(size("width='48' viewBox='0 0 24 12'"), Some((48.0, 24.0)));
        assert_eq!(
            size("width='50%' height='100%' viewBox='0 0 24 12'"),
            Some((12.0, 12.0))
        );
        assert_eq!(size("width='1in' height='25.4mm'"), Some((96.0, 96.0)));
    }

    #[test]
    fn a_size_that_is_missing_zero_or_negative_is_undefined() {
        for attributes in [
            "",
            "width='10'",
            "width='0' height='1'",
            "width='-3' height='1'",
            "viewBox='0 0 0 1'",
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
