//! The renderer: one call from source text to pixels, in process where the work is bounded, in a
//! worker process where it is not.

use crate::config::{CanvasRule, RenderConfig};
use crate::document::{parse, prepare};
use crate::draw::{Look, draw};
use crate::failure::Failure;
use crate::isolate::on_large_stack;
use crate::pool::{Pool, WorkerProgram};
use crate::protocol::Request;
use crate::raster::Raster;
use crate::survey::{Place, survey};
use std::time::Duration;

/// The canvas a document is drawn on, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Exactly this size; the document keeps its aspect ratio inside, as its preserveAspectRatio says.
    Exact { width: u32, height: u32 },
    /// The document's aspect ratio with this longer side.
    Longest(u32),
    /// The document's own size, shrunk if its longer side exceeds `cap`.
    Intrinsic { cap: u32 },
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

/// A picture and the size its document gave itself (CSS pixels).
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub raster: Raster,
    pub intrinsic: (f64, f64),
}

/// Draws documents; shared by threads. Threads made by [`crate::spawn_large_stack`] draw fastest.
pub struct Renderer {
    pool: Pool,
    deadline: Duration,
}

impl Renderer {
    /// `deadline` is what a worker process may spend on one document whose work the limits cannot
    /// bound. Fails with `worker_unavailable` when the worker program cannot be found.
    pub fn new(program: &WorkerProgram, deadline: Duration) -> Result<Self, Failure> {
        Ok(Renderer {
            pool: Pool::new(program)?,
            deadline,
        })
    }

    /// Draws one document. Whatever the text holds, this returns: a picture, or the reason why not.
    pub fn render(
        &self,
        source: &str,
        target: Target,
        config: &RenderConfig,
    ) -> Result<Rendered, Failure> {
        on_large_stack(|| {
            let prepared = prepare(source, target, config)?;
            let document = parse(&prepared.source, &config.limits)?;
            let look = Look {
                background: config.background,
                system_fonts: config.system_fonts,
            };
            let raster = match survey(
                &document,
                prepared.canvas,
                prepared.pixels_per_unit,
                &config.limits,
            )? {
                Place::Here => draw(&document, prepared.canvas, look)?,
                Place::Worker(_) => {
                    let request = Request {
                        canvas: prepared.canvas,
                        look,
                        deadline_ms: self.deadline.as_millis().max(1) as u64,
                    };
                    self.pool.draw(&request, &prepared.source)?
                }
            };
            Ok(Rendered {
                raster,
                intrinsic: prepared.intrinsic,
            })
        })
    }
}
