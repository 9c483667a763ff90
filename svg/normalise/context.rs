//! What the walk over a document knows: of the whole of it, and of what stands around one element.

use super::matrix::Matrix;
use super::tree::{Element, references};
use std::collections::{HashMap, HashSet};

/// What the whole document shares.
pub(super) struct DocumentContext {
    /// Decimals of coordinates.
    pub digits: usize,
    /// From the viewBox to the canvas.
    pub root: Matrix,
    /// Width and height that percentages are of.
    pub view: (f64, f64),
    /// Ids that `use` elements name.
    pub targets: HashSet<String>,
    /// The gradients by their ids, without their stops.
    pub gradients: HashMap<String, Element>,
}

impl DocumentContext {
    /// Of the tree below `root`, whose viewBox has the size `view` and comes to the canvas by `fit`.
    pub(super) fn of(root: &Element, fit: Matrix, view: (f64, f64), digits: usize) -> Self {
        let mut context = DocumentContext {
            digits,
            root: fit,
            view,
            targets: HashSet::new(),
            gradients: HashMap::new(),
        };
        root.visit(&mut |element| {
            if let Some(href) = element.get("href").filter(|_| element.name == "use") {
                let ids = references("href", href);
                context.targets.extend(ids.into_iter().map(str::to_owned));
            }
            if let Some(id) = element.get("id").filter(|_| is_gradient(element)) {
                let gradient = Element {
                    children: Vec::new(),
                    ..element.clone()
                };
                context.gradients.insert(id.to_owned(), gradient);
            }
        });
        context
    }

    /// Decimals of coordinates that are still enlarged by `zoom`.
    pub(super) fn digits_at(&self, zoom: f64) -> usize {
        // A hair below a power of ten is that power, whatever was rounded on the way.
        let more = (zoom.log10() - 1e-3).ceil().max(0.0);
        self.digits + more.min(6.0) as usize
    }
}

fn is_gradient(element: &Element) -> bool {
    matches!(element.name.as_str(), "linearGradient" | "radialGradient")
}

/// What an element finds around it.
#[derive(Clone, Debug)]
pub(super) struct ElementContext {
    /// What coordinates take in.
    pub matrix: Matrix,
    /// The scale in which inherited lengths were written.
    pub scale: f64,
    /// Enlargement by the transforms that stay attributes.
    pub zoom: f64,
    /// Inherited properties as the source has them.
    pub inherited: HashMap<String, String>,
    /// Whether a `use` may draw it elsewhere, with other inherited properties.
    pub instanced: bool,
}
