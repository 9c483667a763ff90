//! What the crates promise together, checked through their public doors.

/// Networks, losses, advantages and the optimizer equal their references in Python.
mod parity;

/// What must not matter does not: packing, micro-batches, recomputation, slots, neighbours.
mod invariants;

/// A process that is killed, stopped or misconfigured.
mod resume;

/// Folders and comparisons that several tests use.
mod support;
