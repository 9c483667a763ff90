//! Everything about one SVG: taking it out of a completion, judging whether it may be rendered,
//! repairing it, drawing it, and surviving it.
//!
//! The text of a completion is hostile until proven small: `extract` finds the document, `limits`
//! and `survey` bound the work it can ask for, `draw` renders it, and whatever its caps cannot
//! bound is drawn by a worker process that may be killed. Nothing here knows about learning, and
//! nothing here reads a file or a network address named by a document.

pub mod bench;
mod config;
mod cost;
mod css_geometry;
mod document;
mod draw;
mod extent;
pub mod extract;
mod failure;
mod fonts;
mod geometry;
mod isolate;
mod lanes;
mod limits;
mod markup;
mod normalise;
mod pool;
mod prolog;
mod protocol;
mod raster;
mod recover;
mod renderer;
mod resize;
mod survey;
mod target;
mod values;
mod wellformed;
pub mod worker;

pub use config::{Background, CanvasRule, Limits, ParseMode, RenderConfig};
pub use document::check;
pub use failure::{Failure, Reason};
pub use isolate::{catches_panics, on_large_stack, spawn_large_stack};
pub use normalise::{NormaliseError, NormaliseOptions, Normalised, normalise};
pub use pool::WorkerProgram;
pub use raster::{Raster, RasterError};
pub use renderer::{Rendered, Renderer, WaitBudget, draw_own};
pub use resize::{Filter, resize, resize_part};
pub use target::Target;
