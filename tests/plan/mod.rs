//! What the plan foretells, held against the bytes that are asked for.

/// Passes of learning: every activation, by shape, kind and recomputation.
mod passes;
