//! Group-relative policy optimisation: a step, and the pure functions it is made of.

pub mod advantage;
pub mod batch;
pub mod loss;
mod scored;
mod step;
mod update;

pub use scored::{Collect, CollectTimes, ScoredGroup, collect, looked_at};
pub use step::{GrpoStats, Trainer};
