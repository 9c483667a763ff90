//! How far a stage is, and what is due when.

/// Counts of a stage so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct StageProgress {
    /// The stage's place in the config.
    pub(super) index: usize,
    /// Steps done.
    pub(super) step: u64,
    /// Whether the evaluation that belongs after that step is still to be made.
    pub(super) pending_eval: bool,
    /// The `eval.stop_after` that ends the stage here; 0: none does.
    pub(super) stopped_after: u64,
    /// Completion tokens learnt from.
    pub(super) tokens: u64,
    /// Examples drawn.
    pub(super) prompts: u64,
}

/// Whether something that happens every so many steps (0: never) happens after `step`.
pub(super) fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
