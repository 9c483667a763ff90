//! The `svgrl` process itself: killed or stopped at any moment, and continued.

/// Batches that are sampled ahead of the learner.
mod ahead;
/// Checkpoints that are written while learning goes on.
mod background;
/// The best checkpoint, an early end, and the samples of evaluations.
mod best;
/// What may differ between a run and its continuation.
mod changed;
/// A run with an encoder's reward, interrupted, is the run that was not.
mod encoded;
/// SVG tokens that a run adds to its policy.
mod extended;
/// The run folder as kills, other processes and people leave it.
mod folder;
/// A run killed with SIGKILL and continued is the run that was never interrupted.
mod killed;
/// SIGTERM writes the state and ends with status 143; SIGINT and SIGHUP.
mod signalled;
/// A tiny run and what is compared of two of them.
mod tiny;
