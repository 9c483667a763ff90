//! The one ordered list of a network's parameters over two flat buffers: what trains, and what is
//! frozen.
//!
//! The list's order is the checkpoint's; each buffer holds its own in that order, and the order of
//! the trainable ones is the optimizer's, the gradient buckets' and the broadcast's. Gradients,
//! moments, master weights and sums are laid out as the trainable buffer alone, so that a frozen
//! parameter costs its weight and nothing besides. What is frozen is said before the buffers exist.
//!
//! Matrices that are multiplied with the same input lie next to each other and form one *leaf*
//! (q, k and v; gate and up): the network computes with the leaf, files see the parts.
//!
//! Leaves that a forward pass uses together are a *unit* (see `units`), a range of the trainable buffer. A
//! rank's share of the optimizer (ZeRO) is a range of each unit, which may begin and end within a leaf.
//!
//! Adapters (LoRA) are leaves declared beside the projection that they change. With them all else is
//! frozen, and the trainable buffer is float32 where the network is in a narrower kind. They are no
//! tensors of the checkpoint's list and have a list of their own.

use std::rc::Rc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::unit_keeper::UnitKeeper;

/// Which flat buffer a parameter lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// Of the parameters that learn.
    Trainable,
    /// Of those that stay as they are.
    Frozen,
}

/// One tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Where it lies.
    pub buffer: Buffer,
    /// Its first element there.
    pub offset: i64,
}

impl ParamSpec {
    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// What of a policy can be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// The tower that sees pictures.
    Vision,
    /// What maps the tower's features to the decoder's width.
    Projector,
    /// Embedding, blocks and head of the language model.
    #[default]
    Decoder,
}

/// One tensor of the autograd graph: one or several specs stacked along the first dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its shape.
    pub shape: Vec<i64>,
    /// Where it lies.
    pub buffer: Buffer,
    /// Its first element there.
    pub offset: i64,
    /// Whether weight decay applies (matrices: yes; norms and biases: no).
    pub decay: bool,
    /// The component of the policy it belongs to.
    pub component: Component,
    /// The unit it belongs to.
    pub unit: usize,
}

impl Leaf {
    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether it learns.
    pub fn trains(&self) -> bool {
        self.buffer == Buffer::Trainable
    }
}

/// The adapter of one linear map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterSpec {
    /// What transformers calls the map.
    pub module: String,
    /// The checkpoint's name of its weight.
    pub base: String,
    /// The matrix that is applied first, `[r, in]`.
    pub a: ParamSpec,
    /// The second one, `[out, r]`.
    pub b: ParamSpec,
}

/// A leaf's number in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParamId(pub(crate) usize);

/// Elements to which a leaf's start is aligned: 64 bytes in float32.
const ALIGN: i64 = 16;

/// The first place from `end` on where a leaf may begin.
pub(crate) fn aligned(end: i64) -> i64 {
    (end + ALIGN - 1) / ALIGN * ALIGN
}

/// The ordered parameters of a network and the buffers that hold them.
#[derive(Debug)]
pub struct ParamTable {
    specs: Vec<ParamSpec>,
    adapters: Vec<AdapterSpec>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) trainable: Tensor,
    frozen: Tensor,
    pub(crate) grad: Option<Tensor>,
    pub(crate) keeper: Option<Rc<dyn UnitKeeper>>,
}

/// What a table lists.
#[derive(Debug, Default)]
pub(crate) struct ParamLists {
    pub(crate) specs: Vec<ParamSpec>,
    pub(crate) adapters: Vec<AdapterSpec>,
    pub(crate) leaves: Vec<Leaf>,
}

fn slice(flat: &Tensor, leaf: &Leaf) -> Tensor {
    flat.narrow(0, leaf.offset, leaf.numel())
        .view(leaf.shape.as_slice())
        .detach()
}

impl ParamTable {
    /// A table over zeros: `lengths` of the two buffers, what learns in `kinds.0`, what is frozen in `kinds.1`.
    pub(crate) fn zeros(
        lists: ParamLists,
        lengths: (i64, i64),
        kinds: (Kind, Kind),
        device: Device,
    ) -> Self {
        let trainable = Tensor::zeros([lengths.0], (kinds.0, device));
        let frozen = Tensor::zeros([lengths.1], (kinds.1, device));
        let ParamLists {
            specs,
            adapters,
            leaves,
        } = lists;
        let tensors = leaves.iter().map(|leaf| match leaf.buffer {
            Buffer::Trainable => slice(&trainable, leaf),
            Buffer::Frozen => slice(&frozen, leaf),
        });
        Self {
            tensors: tensors.collect(),
            specs,
            adapters,
            leaves,
            trainable,
            frozen,
            grad: None,
            keeper: None,
        }
    }

    /// The checkpoint's tensors in order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The adapters, in order; their tensors are none of [`Self::specs`].
    pub fn adapters(&self) -> &[AdapterSpec] {
        &self.adapters
    }

    /// The leaves in order.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The tensor of a leaf; it shares the flat buffer.
    pub(crate) fn tensor(&self, id: ParamId) -> Tensor {
        self.tensors[id.0].shallow_clone()
    }

    /// The kind of all parameters but adapters.
    pub fn kind(&self) -> Kind {
        self.frozen.kind()
    }

    /// Where they lie.
    pub fn device(&self) -> Device {
        self.trainable.device()
    }

    /// What learns, `[N]`, alignment gaps (always zero) included.
    pub fn trainable(&self) -> &Tensor {
        &self.trainable
    }

    /// What stays as it is, `[M]`, alignment gaps included.
    pub fn frozen(&self) -> &Tensor {
        &self.frozen
    }

    /// The gradients of what learns, `[N]`, once [`Self::train`] was called.
    pub fn grad(&self) -> Option<&Tensor> {
        self.grad.as_ref()
    }

    /// A view of one checkpoint tensor, which must be in memory.
    pub fn view(&self, spec: &ParamSpec) -> Tensor {
        let holds = |leaf: &Leaf| {
            let inner = leaf.offset..leaf.offset + leaf.numel();
            leaf.buffer == spec.buffer && inner.contains(&spec.offset)
        };
        let leaf = self.leaves.iter().position(holds);
        let leaf = leaf.expect("every spec lies in a leaf");
        self.tensors[leaf]
            .detach()
            .view([-1])
            .narrow(0, spec.offset - self.leaves[leaf].offset, spec.numel())
            .view(spec.shape.as_slice())
    }

    /// A view of one checkpoint tensor's gradient; `None` for a frozen one and before
    /// [`Self::train`].
    pub fn grad_view(&self, spec: &ParamSpec) -> Option<Tensor> {
        let grad = self.grad.as_ref()?;
        (spec.buffer == Buffer::Trainable).then(|| {
            grad.narrow(0, spec.offset, spec.numel())
                .view(spec.shape.as_slice())
        })
    }

    /// Slices a buffer `[N]` laid out as [`Self::trainable`]: each leaf that learns, and its part.
    pub fn split<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = (&'a Leaf, Tensor)> {
        let learn = self.leaves.iter().filter(|leaf| leaf.trains());
        learn.map(|leaf| (leaf, slice(flat, leaf)))
    }

    /// What learns `[N]`, out of a buffer over all parameters, frozen ones in their places among
    /// them, as optimizer files had it once; `None` when it has another length.
    pub fn trainable_of_joint(&self, joint: &Tensor) -> Option<Tensor> {
        let mut end = 0;
        let starts: Vec<i64> = self
            .leaves
            .iter()
            .map(|leaf| {
                let start = aligned(end);
                end = start + leaf.numel();
                start
            })
            .collect();
        if joint.size() != [end] {
            return None;
        }
        let out = Tensor::zeros(self.trainable.size(), (joint.kind(), joint.device()));
        tch::no_grad(|| {
            for (leaf, start) in self.leaves.iter().zip(starts) {
                if leaf.trains() {
                    out.narrow(0, leaf.offset, leaf.numel())
                        .copy_(&joint.narrow(0, start, leaf.numel()));
                }
            }
        });
        Some(out)
    }

    /// Whether any leaf of `component` learns, now that the table was told to.
    pub fn learns(&self, component: Component) -> bool {
        let of_component = |leaf: &Leaf| leaf.component == component && leaf.trains();
        self.grad.is_some() && self.leaves.iter().any(of_component)
    }

    /// Makes the leaves that learn require gradients, accumulated in place in one flat buffer.
    ///
    /// # Errors
    /// libtorch refusing the buffer (out of memory).
    pub fn train(&mut self) -> Result<(), ModelError> {
        if self.grad.is_some() {
            return Ok(());
        }
        let grad = self.trainable.f_zeros_like()?;
        for (leaf, tensor) in self.leaves.iter().zip(&self.tensors) {
            if leaf.trains() {
                let _ = tensor.set_requires_grad(true);
                torch_ext::set_grad(tensor, &slice(&grad, leaf))?;
            }
        }
        self.grad = Some(grad);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param_layout::ParamLayout;

    fn table(frozen: &[Component]) -> ParamTable {
        let mut layout = ParamLayout::default();
        layout.component(Component::Vision);
        layout.one("tower", &[3, 5]);
        layout.component(Component::Projector);
        layout.one("merge", &[7]);
        layout.component(Component::Decoder);
        layout.stacked(vec![("a".into(), vec![2, 4]), ("b".into(), vec![1, 4])]);
        layout.one("norm", &[4]);
        layout.build(frozen, Kind::Float, Device::Cpu)
    }

    /// Each element its own number, gaps zero.
    fn numbered(params: &ParamTable) {
        let mut next = 1.0;
        for spec in params.specs() {
            for at in 0..spec.numel() {
                let _ = params.view(spec).view([-1]).narrow(0, at, 1).fill_(next);
                next += 1.0;
            }
        }
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.try_into().unwrap()
    }

    #[test]
    fn the_list_keeps_its_order_whatever_is_frozen() {
        let names = |frozen: &[Component]| -> Vec<String> {
            let table = table(frozen);
            table.specs().iter().map(|spec| spec.name.clone()).collect()
        };
        for frozen in [
            &[][..],
            &[Component::Projector],
            &[Component::Vision, Component::Decoder],
        ] {
            assert_eq!(names(frozen), ["tower", "merge", "a", "b", "norm"]);
        }
    }

    #[test]
    fn what_learns_is_found_in_a_buffer_over_all() {
        let whole = table(&[]);
        numbered(&whole);
        for frozen in [
            &[Component::Vision][..],
            &[Component::Vision, Component::Decoder],
            &[],
        ] {
            let parted = table(frozen);
            numbered(&parted);
            let found = parted.trainable_of_joint(whole.trainable()).unwrap();
            assert_eq!(numbers(&found), numbers(parted.trainable()), "{frozen:?}");
            assert!(
                parted
                    .trainable_of_joint(&Tensor::zeros([3], (Kind::Float, Device::Cpu)))
                    .is_none()
            );
        }
    }

    #[test]
    fn frozen_parameters_have_no_gradient_and_take_none_of_its_buffer() {
        let mut table = table(&[Component::Vision, Component::Decoder]);
        table.train().unwrap();
        assert_eq!(table.grad().unwrap().size(), [7]);
        let with: Vec<&str> = table
            .specs()
            .iter()
            .filter(|spec| table.grad_view(spec).is_some())
            .map(|spec| spec.name.as_str())
            .collect();
        assert_eq!(with, ["merge"]);
        assert!(table.learns(Component::Projector) && !table.learns(Component::Vision));
    }
}
