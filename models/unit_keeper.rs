//! Who brings the parameters of a unit to memory and takes its gradients away, where they do not lie there all
//! the time.
//!
//! A unit is what a forward pass uses together: the tower, the embedding, each block, the final norm, the head.
//! Networks say when they need one; they know nothing of ranks or of where its numbers come from.

use std::fmt::Debug;

use torch_ext::TorchError;

/// Hears of each unit before it is used and after. A call that gives `false` has failed: the pass ends there, and
/// the keeper knows why.
pub trait UnitKeeper: Debug {
    /// The weights of `unit` are needed from now on, those of `next` soon.
    fn bring(&self, unit: usize, next: Option<usize>) -> bool;

    /// They are not needed by whoever brought them.
    fn release(&self, unit: usize) -> bool;

    /// Gradients of `unit` are about to be accumulated, from zero unless some are there.
    fn gradient_room(&self, unit: usize) -> bool;

    /// The gradients of `unit` are complete for this backward pass.
    fn gradient_ready(&self, unit: usize) -> bool;

    /// Whether the weights of all units are in memory now.
    fn are_whole(&self) -> bool;

    /// Why a call failed, once.
    fn take_failure(&self) -> Option<TorchError>;

    /// Whether backward passes must run unit by unit.
    fn takes_gradients(&self) -> bool;
}
