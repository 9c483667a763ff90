//! The `svgrl` process itself: killed or stopped at any moment, and continued.

/// A run with an encoder's reward, interrupted, is the run that was not.
mod encoded;
/// A run killed with SIGKILL and continued is the run that was never interrupted.
mod killed;
/// SIGTERM writes the state and ends with status 0.
mod signalled;
/// A tiny run and what is compared of two of them.
mod tiny;
