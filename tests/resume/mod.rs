//! The `svgrl` process itself: killed at any moment and continued, stopped by a signal, given a
//! config it must refuse.

/// A wrong config ends with status 2 and a sentence that helps.
mod refused;
/// A run killed with SIGKILL and continued is the run that was never interrupted.
mod killed;
/// SIGTERM writes the state and ends with status 0.
mod signalled;
/// A tiny run and what is compared of two of them.
mod tiny;
