//! The walk that takes scale and transforms into coordinates.
//!
//! Every element is visited with the transform that its coordinates must take in. An element's own
//! `transform` joins it where the shapes below can take it (see [`DocumentContext::inside`]); else it stays an
//! attribute, expressed in the new units. What other elements refer to (gradients, clips, targets of
//! `use`) takes in the root's scale alone, and so does whatever refers to it.

use super::context::{DocumentContext, ElementContext};
use super::error::Unsupported;
use super::matrix::Matrix;
use super::tree::Element;
use super::{geometry, lengths, names, tidy};
use std::collections::HashMap;

/// Takes the root's scale and all transforms in.
pub(super) fn flatten_transforms(
    root: &mut Element,
    fit: Matrix,
    view: (f64, f64),
    digits: usize,
) -> Result<(), Unsupported> {
    let document = DocumentContext::of(root, fit, view, digits);
    for name in ["transform", "clip-path", "mask", "filter"] {
        if root.get(name).is_some() {
            return Err(Unsupported::new(format!("{name} on the root")));
        }
    }
    if root.elements().any(|inner| inner.any(&|e| e.name == "svg")) {
        return Err(Unsupported::new("<svg> within <svg>"));
    }
    let around = ElementContext {
        matrix: document.root,
        scale: 1.0,
        zoom: 1.0,
        inherited: HashMap::new(),
        instanced: false,
    };
    document.element(root, &around)
}

impl DocumentContext {
    fn element(&self, element: &mut Element, around: &ElementContext) -> Result<(), Unsupported> {
        refuse(element)?;
        // First, so that what is inherited, redundant or 1 is so for the numbers that stay.
        tidy::round(element);
        let mut context = around.clone();
        for (name, value) in &element.attributes {
            let inherits = names::INHERITED.iter().any(|(known, _)| known == name)
                || names::INHERITED_LENGTHS.contains(&name.as_str());
            if inherits {
                context.inherited.insert(name.clone(), value.clone());
            }
        }
        context.instanced |= element
            .get("id")
            .is_some_and(|id| self.targets.contains(id));
        if names::REFERRED.contains(&element.name.as_str()) {
            context.matrix = self.root;
        }
        let (matrix, left) = self.inside(element, &mut context)?;
        context.matrix = matrix;
        let scale = context.matrix.scale();
        let rescaled = (scale - around.scale).abs() > 1e-9 * scale;
        lengths::scale_own(self, element, (around, &context))?;
        if rescaled {
            lengths::restate(self, element, &context)?;
        }
        context.scale = scale;
        geometry::take_in(self, element, &context)?;
        if let Some(left) = left {
            // Last, wherever it was, so that a form keeps its order.
            element.set("transform", left);
        }
        for child in element.elements_mut() {
            self.element(child, &context)?;
        }
        if !context.instanced {
            tidy::redundant(element, around);
        }
        Ok(())
    }

    /// What coordinates in `element` take in, and the `transform` that is left.
    fn inside(
        &self,
        element: &mut Element,
        context: &mut ElementContext,
    ) -> Result<(Matrix, Option<String>), Unsupported> {
        let own = match element.take("transform") {
            Some(text) => Matrix::parse(&text)?,
            None => Matrix::IDENTITY,
        };
        let around = context.matrix;
        let whole = around.after(&own);
        let (inside, left) = if self.is_pinned(element, context) {
            (self.root, whole.after(&self.root.inverse()))
        } else if own == Matrix::IDENTITY {
            return Ok((around, None));
        } else {
            let rescales = (whole.scale() - around.scale()).abs() > 1e-9 * whole.scale();
            let plain = whole.is_plain() && !(context.instanced && rescales);
            if plain || self.takes_any(element, context) {
                return Ok((whole, None));
            }
            (around, whole.after(&around.inverse()))
        };
        let written = left.written(self.digits_at(context.zoom));
        if written.is_some() {
            context.zoom *= left.scale();
        }
        Ok((inside, written))
    }

    /// Whether something refers to, or is referred to from, the coordinates in here.
    fn is_pinned(&self, element: &Element, context: &ElementContext) -> bool {
        let paints = ["fill", "stroke"].iter().any(|name| {
            let value = context.inherited.get(*name);
            value.is_some_and(|value| value.contains("url("))
        });
        let refers = ["clip-path", "mask", "filter"]
            .iter()
            .any(|name| element.get(name).is_some_and(|value| value != "none"));
        let target = |inner: &Element| {
            inner.name == "textPath" || inner.get("id").is_some_and(|id| self.targets.contains(id))
        };
        paints
            || refers
            || element.name == "use"
            || element.elements().any(|inner| inner.any(&target))
    }

    /// Whether everything in here is lines without stroke, which can take in any transform.
    fn takes_any(&self, element: &Element, context: &ElementContext) -> bool {
        let effective = |name: &str| {
            element
                .get(name)
                .or(context.inherited.get(name).map(|v| v.as_str()))
        };
        let unstroked = effective("stroke").is_none_or(|stroke| stroke == "none");
        let plain = element.attributes.iter().all(|(name, value)| {
            name != "id" && !name.starts_with("marker") && !value.contains("url(")
        });
        let transforms = element
            .get("transform")
            .is_none_or(|text| Matrix::parse(text).is_ok());
        let lines = matches!(element.name.as_str(), "g" | "path" | "polygon" | "polyline");
        let inner = |child: &Element| {
            let stroke = child.get("stroke").is_none_or(|stroke| stroke == "none");
            stroke && self.takes_any(child, context)
        };
        lines
            && unstroked
            && plain
            && transforms
            && !context.instanced
            && element.elements().all(inner)
    }
}

/// What has coordinates of its own kind.
fn refuse(element: &Element) -> Result<(), Unsupported> {
    let is = |name: &str, value: &str| element.get(name) == Some(value);
    let why = match element.name.as_str() {
        name @ ("pattern" | "marker" | "symbol" | "switch" | "tref" | "style") => {
            Some(format!("<{name}>"))
        }
        "clipPath" if is("clipPathUnits", "objectBoundingBox") => {
            Some("a clip in shares of its object".into())
        }
        "mask" if is("maskContentUnits", "objectBoundingBox") => {
            Some("a mask in shares of its object".into())
        }
        "filter" if is("primitiveUnits", "objectBoundingBox") => {
            Some("a filter in shares of its object".into())
        }
        name if name.starts_with("fe") && !names::SCALABLE_FILTERS.contains(&name) => {
            Some(format!("<{name}>"))
        }
        _ => None,
    };
    let by_function = element
        .get("filter")
        .is_some_and(|value| value != "none" && !value.starts_with("url("));
    let shares = names::FILTER_LENGTHS
        .iter()
        .any(|name| element.get(name).is_some_and(|value| value.contains('%')));
    let why = match () {
        () if why.is_some() => why,
        () if by_function => Some("a filter function".into()),
        () if shares && element.name.starts_with("fe") => Some("a filter in percentages".into()),
        () => None,
    };
    let odd = ["transform-origin", "vector-effect", "pathLength"];
    let why = why.or_else(|| {
        let name = odd.iter().find(|name| element.get(name).is_some())?;
        Some(format!("{name}="))
    });
    match why {
        Some(why) => Err(Unsupported::new(why)),
        None => Ok(()),
    }
}
