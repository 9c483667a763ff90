//! Which canvas a document is drawn on: what a caller asks for, and how a task's rule chooses it.

use crate::config::{CanvasRule, RenderConfig};

/// The canvas a document is drawn on, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Exactly this size; the document keeps its aspect ratio inside, as its preserveAspectRatio says.
    Exact {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The document's aspect ratio with this longer side.
    Longest(u32),
    /// The document's own size, shrunk if its longer side exceeds `cap`.
    Intrinsic {
        /// The longest side there may be.
        cap: u32,
    },
}

impl RenderConfig {
    /// The canvas for a reference, or for an SVG that has none.
    pub fn own_target(&self) -> Target {
        match self.canvas {
            CanvasRule::Reference => Target::Longest(self.size),
            CanvasRule::Fixed => Target::Exact {
                width: self.size,
                height: self.size,
            },
            CanvasRule::Intrinsic => Target::Intrinsic { cap: self.size },
        }
    }

    /// The canvas for a prediction whose reference was drawn on `reference` pixels.
    pub fn target_beside(&self, reference: (u32, u32)) -> Target {
        match self.canvas {
            CanvasRule::Reference => Target::Exact {
                width: reference.0,
                height: reference.1,
            },
            CanvasRule::Fixed | CanvasRule::Intrinsic => self.own_target(),
        }
    }
}
