//! A network's parameters by units: parts of the buffer of what learns that are used together, whose weights and
//! gradients may lie in memory of their own that comes and goes.
//!
//! In the order of the forward pass: the tower with its projector, the embedding, each block, the final norm, the
//! head where it is not the embedding. Without a keeper everything lies in the flat buffers and the calls here cost
//! nothing. Frozen parameters lie in their flat buffer in any case.

use std::ops::Range;
use std::rc::Rc;

use tch::Tensor;

use crate::ModelError;
use crate::config::DecoderConfig;
use crate::param_layout::ParamLayout;
use crate::params::ParamTable;
use crate::unit_keeper::UnitKeeper;

/// The unit of the tower that sees pictures, and of its projector; empty without one.
pub const TOWER_UNIT: usize = 0;

/// The unit of the embedding.
pub const EMBEDDING_UNIT: usize = 1;

/// The unit of the first block; the others follow, then the final norm.
pub const FIRST_BLOCK_UNIT: usize = 2;

impl ParamLayout {
    /// The leaves added from here on are another unit's.
    pub(crate) fn next_unit(&mut self) {
        self.unit += 1;
    }
}

impl DecoderConfig {
    /// Whether the heads of queries and keys are normed (Qwen3).
    pub fn norms_heads(&self) -> bool {
        self.architecture.traits().head_norms
    }

    /// The unit of the final norm.
    pub fn norm_unit(&self) -> usize {
        FIRST_BLOCK_UNIT + self.num_layers as usize
    }

    /// The unit of the head's matrix.
    pub fn head_unit(&self) -> usize {
        match self.tied {
            true => EMBEDDING_UNIT,
            false => self.norm_unit() + 1,
        }
    }
}

impl ParamTable {
    /// Where each unit lies in the buffer of what learns, the gaps between units left out; empty where nothing of
    /// a unit learns.
    pub fn units(&self) -> Vec<Range<i64>> {
        let count = self.leaves().iter().map(|leaf| leaf.unit + 1).max();
        let mut units = vec![(0, 0); count.unwrap_or(0)];
        for leaf in self.leaves().iter().filter(|leaf| leaf.trains()) {
            let (start, end) = &mut units[leaf.unit];
            if start == end {
                *start = leaf.offset;
            }
            *end = leaf.offset + leaf.numel();
        }
        units.into_iter().map(|(start, end)| start..end).collect()
    }

    /// Has the leaves of `unit` that learn lie in `buffer`, laid out as the unit in the flat buffer. What the
    /// buffer holds is the caller's affair; when all units lie elsewhere, [`Self::give_up_trainable`] follows.
    ///
    /// # Errors
    /// libtorch's.
    pub fn loosen_unit(&mut self, unit: usize, buffer: &Tensor) -> Result<(), ModelError> {
        for (index, view) in self.unit_views(unit, buffer) {
            // Every handle of the leaf, the networks' too, follows.
            self.tensors[index].f_set_data(&view)?;
        }
        Ok(())
    }

    /// The flat buffer of what learns is no longer: [`Self::trainable`] is empty.
    pub fn give_up_trainable(&mut self) {
        self.trainable = none(&self.trainable);
    }

    /// [`Self::train`] for the leaves of `unit`, whose gradients lie in `buffer`, laid out as the unit in the flat
    /// buffer; [`Self::grad`] is empty.
    ///
    /// # Errors
    /// libtorch's.
    pub fn train_unit(&mut self, unit: usize, buffer: &Tensor) -> Result<(), ModelError> {
        for (index, view) in self.unit_views(unit, buffer) {
            let _ = self.tensors[index].set_requires_grad(true);
            torch_ext::set_grad(&self.tensors[index], &view)?;
        }
        self.grad = Some(none(&self.trainable));
        Ok(())
    }

    /// The leaves of `unit` that learn, by number, and their places in a buffer laid out as the unit.
    fn unit_views(&self, unit: usize, buffer: &Tensor) -> Vec<(usize, Tensor)> {
        let leaves = self.leaves.iter().enumerate();
        let own: Vec<_> = leaves
            .filter(|(_, leaf)| leaf.unit == unit && leaf.trains())
            .collect();
        let start = own.first().map_or(0, |(_, leaf)| leaf.offset);
        let views = own.into_iter().map(|(index, leaf)| {
            let view = buffer
                .narrow(0, leaf.offset - start, leaf.numel())
                .view(leaf.shape.as_slice());
            (index, view.detach())
        });
        views.collect()
    }

    /// Elements of the buffer of what learns, wherever they lie.
    pub fn trainable_len(&self) -> i64 {
        let ends = self.leaves.iter().filter(|leaf| leaf.trains());
        ends.map(|leaf| leaf.offset + leaf.numel())
            .max()
            .unwrap_or(0)
    }

    /// A copy of `range` of the buffer of what learns, whose parts must be in memory.
    pub fn trainable_part(&self, range: Range<i64>) -> Tensor {
        let place = (self.trainable.kind(), self.device());
        let part = Tensor::zeros([range.end - range.start], place);
        let leaves = self.leaves.iter().zip(&self.tensors);
        tch::no_grad(|| {
            for (leaf, tensor) in leaves.filter(|(leaf, _)| leaf.trains()) {
                let start = leaf.offset.max(range.start);
                let len = (leaf.offset + leaf.numel()).min(range.end) - start;
                if len > 0 {
                    let from = tensor.view([-1]).narrow(0, start - leaf.offset, len);
                    part.narrow(0, start - range.start, len).copy_(&from);
                }
            }
        });
        part
    }

    /// From here on `keeper` is told of the units' comings and goings.
    pub fn keep_with(&mut self, keeper: Rc<dyn UnitKeeper>) {
        self.keeper = Some(keeper);
    }

    /// Why the keeper ended a pass, where it did.
    pub fn take_failure(&self) -> Option<torch_ext::TorchError> {
        self.keeper.as_ref()?.take_failure()
    }

    /// Whether all weights are in memory now: where they come and go, nothing may read those that are not.
    pub fn are_whole(&self) -> bool {
        self.keeper.as_ref().is_none_or(|keeper| keeper.are_whole())
    }

    /// Whether weights, or gradients, come and go by units.
    pub fn come_and_go(&self) -> bool {
        self.keeper.is_some()
    }

    /// Whether backward passes run unit by unit.
    pub(crate) fn is_taken_by_units(&self) -> bool {
        self.keeper.as_ref().is_some_and(|it| it.takes_gradients())
    }

    /// `work` with the weights of `unit` in memory, those of `next` on their way there.
    ///
    /// A keeper that fails ends the pass as a failing operator does: by a panic that [`crate::catch_torch`]
    /// catches, and asks the keeper.
    pub fn within<T>(&self, unit: usize, next: Option<usize>, work: impl FnOnce() -> T) -> T {
        let Some(keeper) = &self.keeper else {
            return work();
        };
        go_on(keeper.bring(unit, next));
        let made = work();
        go_on(keeper.release(unit));
        made
    }

    /// Gradients of `unit` are about to come.
    pub fn gradient_room(&self, unit: usize) {
        if let Some(keeper) = &self.keeper {
            go_on(keeper.gradient_room(unit));
        }
    }

    /// Those of this backward pass are there.
    pub fn gradient_ready(&self, unit: usize) {
        if let Some(keeper) = &self.keeper {
            go_on(keeper.gradient_ready(unit));
        }
    }
}

fn go_on(fine: bool) {
    if !fine {
        // As an operator of libtorch that fails; who catches it asks for the failure, so nothing is printed.
        std::panic::resume_unwind(Box::new("the parameters could not be brought".to_owned()));
    }
}

/// No numbers, of the kind and in the place of `like`.
fn none(like: &Tensor) -> Tensor {
    Tensor::empty([0], (like.kind(), like.device()))
}
