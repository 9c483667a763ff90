//! One SVG in the form models are trained on: a square viewBox, one uniform scale, few decimals,
//! styles and transforms taken into attributes and coordinates, nothing that is not drawn.
//!
//! The canvas is 128 by 128 with two decimals in CTRL-S and InternSVG (their svgo set-up: styles
//! inlined, shapes kept, viewBox kept), 200 by 200 with whole numbers in IntroSVG. The scale is
//! `min(side / width, side / height)` of the viewBox, placed as preserveAspectRatio says.
//!
//! Losing nothing goes before saying little. A transform that shapes cannot take in stays an attribute;
//! a document with coordinates of another kind (patterns, markers, symbols, nested viewports, style
//! sheets beyond what the renderer follows, sizes relative to an unstated font) keeps its own inside one
//! nested viewport, and [`Normalised::kept`] says why. What has no still vector form is refused:
//! pictures, HTML, animation. Links, scripts, titles, editors' data and comments are left out; colours
//! and paths are not rewritten. Whether the result shows the same picture is for the caller to check:
//! nothing is drawn here.

mod arc;
mod context;
mod error;
mod flatten;
mod geometry;
mod gradient;
mod lengths;
mod matrix;
mod names;
mod number;
mod path;
mod prune;
mod read;
mod style;
#[cfg(test)]
mod tests;
mod tidy;
mod tree;

use crate::config::{Limits, ParseMode, RenderConfig};
use crate::document::{parse, prepare};
use crate::isolate::caught;

use crate::survey::survey;
use crate::target::Target;
pub use error::NormaliseError;
use error::Unsupported;
use flatten::flatten_transforms;
use matrix::Matrix;
use style::Sheet;
use svgtypes::{Align, AspectRatio};
use tree::{Child, Element};

/// The form to bring a document into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormaliseOptions {
    /// Side of the square viewBox, user units, 1 to 4096.
    pub side: u32,
    /// Decimals of coordinates, 0 to 6.
    pub decimals: u32,
}

impl Default for NormaliseOptions {
    fn default() -> Self {
        NormaliseOptions {
            side: 128,
            decimals: 2,
        }
    }
}

/// A document in its new form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The whole document on one line.
    pub svg: String,
    /// Why coordinates are as they were, inside a nested viewport; none where they were taken in.
    pub kept: Option<String>,
}

/// Brings a document into its normal form: the same text for the same document, and the form of a
/// form is itself.
///
/// # Errors
/// A document over the limits or malformed, or one that has no such form.
pub fn normalise(
    source: &str,
    options: &NormaliseOptions,
    limits: &Limits,
) -> Result<Normalised, NormaliseError> {
    let mut refused = None;
    let done = caught(|| match in_form(source, options, limits) {
        Ok(normalised) => Ok(Some(normalised)),
        Err(NormaliseError::Failure(failure)) => Err(failure),
        Err(other) => {
            refused = Some(other);
            Ok(None)
        }
    })?;
    match (done, refused) {
        (Some(normalised), _) => Ok(normalised),
        (None, Some(refusal)) => Err(refusal),
        (None, None) => unreachable!("either is set"),
    }
}

fn in_form(
    source: &str,
    options: &NormaliseOptions,
    limits: &Limits,
) -> Result<Normalised, NormaliseError> {
    let config = RenderConfig {
        mode: ParseMode::Strict,
        limits: limits.clone(),
        ..RenderConfig::default()
    };
    let side = options.side;
    let square = Target::Exact {
        width: side,
        height: side,
    };
    let prepared = prepare(source.trim_start(), square, &config)?;
    let document = parse(&prepared.source, limits)?;
    survey(&document, prepared.canvas, prepared.pixels_per_unit, limits)?;
    let sheet = Sheet::of(&document);
    let mut root = read::element(document.root_element(), &sheet)?;
    let view = RootView::take(&mut root)?;
    if !sheet.kept {
        prune::unused(&mut root);
    }
    let mut flat = root.clone();
    let digits = options.decimals as usize;
    let tried = if sheet.kept {
        Err(Unsupported::new("a style sheet beyond attributes"))
    } else {
        tree::unique_ids(&root)
            .and_then(|()| flatten_transforms(&mut flat, view.fit(side), view.size(), digits))
    };
    let (mut root, kept) = match tried {
        Ok(()) => {
            prune::bare_groups(&mut flat);
            (flat, None)
        }
        Err(Unsupported(why)) => (view.nested(root, side), Some(why)),
    };
    let mut attributes = vec![
        ("xmlns".to_owned(), "http://www.w3.org/2000/svg".to_owned()),
        ("viewBox".to_owned(), format!("0 0 {side} {side}")),
    ];
    attributes.append(&mut root.attributes);
    root.attributes = attributes;
    Ok(Normalised {
        svg: root.written(),
        kept,
    })
}

/// The root's viewBox and how it is placed.
struct RootView {
    /// As written.
    text: String,
    aspect: Option<String>,
    /// Origin and size.
    numbers: [f64; 4],
    placed: AspectRatio,
}

impl RootView {
    /// Takes the root's size off its attributes.
    fn take(root: &mut Element) -> Result<Self, NormaliseError> {
        for name in ["width", "height", "x", "y", "overflow"] {
            root.take(name);
        }
        let text = root.take("viewBox").unwrap_or_default();
        let aspect = root.take("preserveAspectRatio");
        let mut numbers = [0.0; 4];
        for (number, word) in numbers.iter_mut().zip(tree::words(&text)) {
            *number = word.parse().unwrap_or(0.0);
        }
        let placed = aspect
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let view = RootView {
            text,
            aspect,
            numbers,
            placed,
        };
        let square = (numbers[2] - numbers[3]).abs() <= 1e-6 * numbers[2].abs();
        match view.placed.align == Align::None && !square {
            true => Err(NormaliseError::Stretched),
            false => Ok(view),
        }
    }

    fn size(&self) -> (f64, f64) {
        (self.numbers[2], self.numbers[3])
    }

    /// From the viewBox to a square canvas.
    fn fit(&self, side: u32) -> Matrix {
        let (side, [x, y, width, height]) = (f64::from(side), self.numbers);
        let (across, down) = (side / width, side / height);
        let scale = match self.placed.slice {
            true => across.max(down),
            false => across.min(down),
        };
        let (left, top) = (side - width * scale, side - height * scale);
        let (right, lower) = shares(self.placed.align);
        Matrix::uniform(scale, left * right - x * scale, top * lower - y * scale)
    }

    /// The document with its own coordinates in a viewport of its own, unless they are the canvas'.
    fn nested(self, mut root: Element, side: u32) -> Element {
        let side_text = side.to_string();
        if self.fit(side) == Matrix::IDENTITY {
            return root;
        }
        let mut own = vec![
            ("viewBox".to_owned(), self.text),
            ("width".to_owned(), side_text.clone()),
            ("height".to_owned(), side_text),
        ];
        own.extend(
            self.aspect
                .map(|aspect| ("preserveAspectRatio".to_owned(), aspect)),
        );
        own.append(&mut root.attributes);
        // On an inner <svg> it would move the viewport, not what the viewBox has placed in it.
        if let Some(at) = own.iter().position(|(name, _)| name == "transform") {
            root.children = vec![Child::Element(Element {
                name: "g".into(),
                attributes: vec![own.remove(at)],
                children: root.children,
            })];
        }
        root.attributes = own;
        Element {
            name: "svg".into(),
            attributes: Vec::new(),
            children: vec![Child::Element(root)],
        }
    }
}

/// The parts of the space left over that lie left of the picture and above it.
fn shares(align: Align) -> (f64, f64) {
    match align {
        Align::XMinYMin => (0.0, 0.0),
        Align::XMidYMin => (0.5, 0.0),
        Align::XMaxYMin => (1.0, 0.0),
        Align::XMinYMid => (0.0, 0.5),
        Align::XMidYMid | Align::None => (0.5, 0.5),
        Align::XMaxYMid => (1.0, 0.5),
        Align::XMinYMax => (0.0, 1.0),
        Align::XMidYMax => (0.5, 1.0),
        Align::XMaxYMax => (1.0, 1.0),
    }
}
