//! What a run's results must not depend on.

/// An engine behind HTTP needs no change of the step.
mod engines;
/// Frozen parts cost their weights alone; optimizer files of before they lay apart are read.
mod freezing;
/// Packing, micro-batches, blocks of logits and recomputation change neither log-probabilities nor gradients.
pub mod learning;
/// Adapters: dropout, memory, the base without them, merging.
pub mod lora;
/// A bounded cache changes no completion, and holds what was written.
mod paging;
/// Slots and neighbours change no completion; sampler and learner agree on probabilities.
mod sampling;
/// Weights are written without a second copy of them.
mod saving;
/// Prompts with pictures are looked at and run once a group; image tokens are never sampled.
mod seeing;
/// Stop strings that span tokens end a completion and are cut or kept.
mod stops;
