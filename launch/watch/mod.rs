//! `svgrl watch` in the terminal: a run's curves, the phases of its steps, time left, and its last samples.
//!
//! Everything is read from the run folder, so that it works from another process or over a shared disk, and never
//! disturbs the run.

mod state;
mod view;

pub use state::WatchedRun;
pub use view::draw;
