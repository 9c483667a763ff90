//! Policy, gradients and optimizer shared out among ranks: what one rank learns alone, in a part of its memory.

/// Checkpoints of one number of ranks and stage continued by another.
mod continued;
/// Loss, gradients and weights of every stage.
mod learning;
/// Ranks that are lost or stopped.
mod lost;
/// A policy that sees, its tower learning or frozen.
mod pictured;
/// One process of several, started by the tests beside it.
mod process;
