//! Coordinates of shapes, text and the regions of clips, masks and filters.

use super::context::{DocumentContext, ElementContext};
use super::error::Unsupported;
use super::gradient;
use super::lengths::has_font;
use super::names;
use super::number::{Axis, LengthSize, length, written, written_size};
use super::path;
use super::tree::{Element, words};
use svgtypes::PointsParser;

/// Takes the context's transform into the element's own coordinates.
pub(super) fn take_in(
    document: &DocumentContext,
    element: &mut Element,
    context: &ElementContext,
) -> Result<(), Unsupported> {
    let pen = ShapeWriter {
        document,
        context,
        digits: document.digits_at(context.zoom),
    };
    let user_space = |name: &str| element.get(name) == Some("userSpaceOnUse");
    match element.name.as_str() {
        "path" => {
            if let Some(data) = element.get("d") {
                let data = path::transformed(data, &context.matrix, pen.digits);
                element.set("d", data);
            }
            Ok(())
        }
        "polyline" | "polygon" => {
            if let Some(points) = element.get("points") {
                let points = pen.points(points);
                element.set("points", points);
            }
            Ok(())
        }
        "rect" => {
            pen.places(element, &["x", "y"])?;
            pen.sizes(element, &["width", "height", "rx", "ry"])
        }
        "circle" => {
            pen.places(element, &["cx", "cy"])?;
            pen.sizes(element, &["r"])
        }
        "ellipse" => {
            pen.places(element, &["cx", "cy"])?;
            pen.sizes(element, &["rx", "ry"])
        }
        "line" => pen.places(element, &["x1", "y1", "x2", "y2"]),
        "use" => pen.shifts(element, &["x", "y"]),
        "text" => pen.text(element),
        "tspan" | "textPath" => pen.words(element),
        "mask" if user_space("maskUnits") => pen.region(element),
        "filter" if user_space("filterUnits") => pen.region(element),
        "linearGradient" | "radialGradient" => gradient::take_in(document, element),
        name if name.starts_with("fe") => {
            spell_out(element)?;
            pen.shifts(element, &names::FILTER_LENGTHS)?;
            pen.region_given(element)
        }
        _ => Ok(()),
    }
}

/// Writes down lengths that a primitive has where it says none: they would not take in the scale. A
/// morphology without radius, or with one that is not positive, is drawn with a unit of its own.
fn spell_out(element: &mut Element) -> Result<(), Unsupported> {
    match element.name.as_str() {
        "feDropShadow" => {
            for name in ["dx", "dy", "stdDeviation"] {
                if element.get(name).is_none() {
                    element.set(name, "2".to_owned());
                }
            }
            Ok(())
        }
        "feMorphology" => {
            let radius = element.get("radius").unwrap_or_default();
            let positive = |word: &str| word.parse::<f64>().is_ok_and(|radius| radius > 0.0);
            match !radius.trim().is_empty() && words(radius).all(positive) {
                true => Ok(()),
                false => Err(Unsupported::new("a morphology without a positive radius")),
            }
        }
        _ => Ok(()),
    }
}

struct ShapeWriter<'a> {
    document: &'a DocumentContext,
    context: &'a ElementContext,
    digits: usize,
}

/// Along which side an attribute runs.
fn of(name: &str) -> Axis {
    match name {
        "x" | "x1" | "x2" | "cx" | "dx" | "rx" | "width" => Axis::Width,
        "y" | "y1" | "y2" | "cy" | "dy" | "ry" | "height" => Axis::Height,
        _ => Axis::Diagonal,
    }
}

impl ShapeWriter<'_> {
    fn points(&self, text: &str) -> String {
        let points = PointsParser::from(text).map(|(x, y)| {
            let (x, y) = self.context.matrix.point(x, y);
            format!("{} {}", written(x, self.digits), written(y, self.digits))
        });
        points.collect::<Vec<_>>().join(" ")
    }

    /// How far the transform moves what runs along this side.
    fn offset(&self, name: &str) -> f64 {
        match of(name) {
            Axis::Width => self.context.matrix.e,
            _ => self.context.matrix.f,
        }
    }

    /// Positions; an absent one is 0, and 0 is left out.
    fn places(&self, element: &mut Element, names: &[&str]) -> Result<(), Unsupported> {
        for name in names {
            let place = match element.get(name) {
                Some(text) => self.place(name, text)?,
                None => written(self.offset(name), self.digits),
            };
            match place.as_str() {
                "0" => drop(element.take(name)),
                _ => element.set(name, place),
            }
        }
        Ok(())
    }

    fn place(&self, name: &str, text: &str) -> Result<String, Unsupported> {
        let offset = self.offset(name);
        match length(text, of(name), self.document.view)? {
            LengthSize::User(v) => Ok(written(
                v * self.context.matrix.scale() + offset,
                self.digits,
            )),
            LengthSize::Font if offset == 0.0 => has_font(self.context).map(|()| text.to_owned()),
            LengthSize::Font => Err(Unsupported::new(format!("{name}={text:?}, moved"))),
        }
    }

    fn sizes(&self, element: &mut Element, names: &[&str]) -> Result<(), Unsupported> {
        for name in names {
            let Some(text) = element.get(name) else {
                continue;
            };
            let size = match length(text, of(name), self.document.view)? {
                LengthSize::User(v) => written_size(v * self.context.matrix.scale(), self.digits),
                LengthSize::Font => has_font(self.context).map(|()| text.to_owned())?,
            };
            element.set(name, size);
        }
        Ok(())
    }

    /// Distances, one or a list: scaled, not moved.
    fn shifts(&self, element: &mut Element, names: &[&str]) -> Result<(), Unsupported> {
        for name in names {
            let Some(text) = element.get(name) else {
                continue;
            };
            let each = words(text).map(|word| match length(word, of(name), self.document.view)? {
                LengthSize::User(v) => Ok(written(v * self.context.matrix.scale(), self.digits)),
                LengthSize::Font => has_font(self.context).map(|()| word.to_owned()),
            });
            let text = each.collect::<Result<Vec<_>, Unsupported>>()?.join(" ");
            element.set(name, text);
        }
        Ok(())
    }

    fn text(&self, element: &mut Element) -> Result<(), Unsupported> {
        has_font(self.context)?;
        // Text on a path starts where the path does.
        let along = element.any(&|inner| inner.name == "textPath");
        for name in ["x", "y"] {
            let offset = written(self.offset(name), self.digits);
            if element.get(name).is_none() && offset != "0" && !along {
                element.set(name, offset);
            } else {
                self.list(element, name)?;
            }
        }
        self.distances(element)
    }

    fn words(&self, element: &mut Element) -> Result<(), Unsupported> {
        self.list(element, "x")?;
        self.list(element, "y")?;
        self.distances(element)
    }

    /// One position for each letter.
    fn list(&self, element: &mut Element, name: &str) -> Result<(), Unsupported> {
        let Some(text) = element.get(name) else {
            return Ok(());
        };
        let each = words(text).map(|word| self.place(name, word));
        let text = each.collect::<Result<Vec<_>, Unsupported>>()?.join(" ");
        element.set(name, text);
        Ok(())
    }

    fn distances(&self, element: &mut Element) -> Result<(), Unsupported> {
        self.shifts(element, &["dx", "dy", "textLength"])?;
        match element.get("startOffset") {
            // A share of the path's length.
            Some(text) if text.ends_with('%') => Ok(()),
            _ => self.shifts(element, &["startOffset"]),
        }
    }

    /// A region whose absent sides are shares of the viewport.
    fn region(&self, element: &mut Element) -> Result<(), Unsupported> {
        for (name, share) in [
            ("x", "-10%"),
            ("y", "-10%"),
            ("width", "120%"),
            ("height", "120%"),
        ] {
            if element.get(name).is_none() {
                element.set(name, share);
            }
        }
        self.region_given(element)
    }

    fn region_given(&self, element: &mut Element) -> Result<(), Unsupported> {
        for name in ["x", "y"] {
            if let Some(text) = element.get(name) {
                let place = self.place(name, text)?;
                element.set(name, place);
            }
        }
        self.sizes(element, &["width", "height"])
    }
}
