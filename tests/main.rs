//! What the crates promise together, checked through their public doors.

/// Networks, losses, advantages and the optimizer equal their references in Python.
mod parity;

/// What must not matter does not: packing, micro-batches, recomputation, slots, neighbours.
mod invariants;

/// Folders and comparisons that several tests use.
mod support;
