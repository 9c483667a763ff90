//! The one ordered list of a network's parameters over flat buffers.
//!
//! Its order is the checkpoint's, the optimizer's, the gradient buckets' and the broadcast's.
//! Matrices that are multiplied with the same input lie next to each other and form one *leaf*
//! (q, k and v; gate and up): the network computes with the leaf, files see the parts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::ModelError;

/// One tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its first element in the flat buffer.
    pub offset: i64,
}

impl ParamSpec {
    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// The parts of a policy that can be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
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
    /// Its first element in the flat buffer.
    pub offset: i64,
    /// Whether weight decay applies (matrices: yes; norms and biases: no).
    pub decay: bool,
    /// The part of the policy it belongs to.
    pub part: Part,
    /// Whether it learns; see [`ParamTable::freeze`].
    pub trains: bool,
}

/// Elements to which a leaf's start is aligned: 64 bytes in float32.
const ALIGN: i64 = 16;

/// The ordered parameters of a network and the buffer `[N]` that holds them.
#[derive(Debug)]
pub struct ParamTable {
    specs: Vec<ParamSpec>,
    leaves: Vec<Leaf>,
    tensors: Vec<Tensor>,
    flat: Tensor,
    grad: Option<Tensor>,
}

/// Collects leaves before the buffer exists.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    specs: Vec<ParamSpec>,
    leaves: Vec<Leaf>,
    end: i64,
    part: Part,
}

impl Layout {
    /// The leaves added from here on belong to `part`.
    pub(crate) fn part(&mut self, part: Part) {
        self.part = part;
    }

    /// A leaf of one tensor.
    pub(crate) fn one(&mut self, name: impl Into<String>, shape: &[i64]) -> usize {
        self.leaf(vec![(name.into(), shape.to_vec())])
    }

    /// Adds `parts` (name, shape), stacked along the first dimension; returns the leaf's index.
    pub(crate) fn leaf(&mut self, parts: Vec<(String, Vec<i64>)>) -> usize {
        self.end = (self.end + ALIGN - 1) / ALIGN * ALIGN;
        let mut shape = parts[0].1.clone();
        shape[0] = parts.iter().map(|(_, shape)| shape[0]).sum();
        self.leaves.push(Leaf {
            decay: shape.len() > 1,
            shape,
            offset: self.end,
            part: self.part,
            trains: true,
        });
        for (name, shape) in parts {
            let spec = ParamSpec {
                name,
                shape,
                offset: self.end,
            };
            self.end += spec.numel();
            self.specs.push(spec);
        }
        self.leaves.len() - 1
    }

    /// Number of weights.
    pub(crate) fn numel(&self) -> i64 {
        self.specs.iter().map(ParamSpec::numel).sum()
    }

    /// Zeros of `kind` on `device` in this layout.
    pub(crate) fn build(self, kind: Kind, device: Device) -> ParamTable {
        let flat = Tensor::zeros([self.end], (kind, device));
        let tensors = self.leaves.iter().map(|leaf| view(&flat, leaf)).collect();
        ParamTable {
            specs: self.specs,
            leaves: self.leaves,
            tensors,
            flat,
            grad: None,
        }
    }
}

fn view(flat: &Tensor, leaf: &Leaf) -> Tensor {
    let numel: i64 = leaf.shape.iter().product();
    flat.narrow(0, leaf.offset, numel)
        .view(leaf.shape.as_slice())
        .detach()
}

impl ParamTable {
    /// The checkpoint's tensors in order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The leaves in order.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The tensor of leaf `index`; it shares the flat buffer.
    pub fn tensor(&self, index: usize) -> Tensor {
        self.tensors[index].shallow_clone()
    }

    /// All values, `[N]`, alignment gaps (always zero) included.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// All gradients, `[N]`, once [`Self::train`] was called.
    pub fn grad(&self) -> Option<&Tensor> {
        self.grad.as_ref()
    }

    /// A view of one checkpoint tensor.
    pub fn view(&self, spec: &ParamSpec) -> Tensor {
        self.flat
            .narrow(0, spec.offset, spec.numel())
            .view(spec.shape.as_slice())
    }

    /// Slices a flat buffer `[N]` like this table's into one view per leaf.
    pub fn split(&self, flat: &Tensor) -> Vec<Tensor> {
        self.leaves.iter().map(|leaf| view(flat, leaf)).collect()
    }

    /// Keeps `parts` as they are: their leaves get no gradients and no updates. Before
    /// [`Self::train`].
    pub fn freeze(&mut self, parts: &[Part]) {
        for leaf in &mut self.leaves {
            leaf.trains = !parts.contains(&leaf.part);
        }
    }

    /// Whether any leaf of `part` learns.
    pub fn learns(&self, part: Part) -> bool {
        self.grad.is_some()
            && self
                .leaves
                .iter()
                .any(|leaf| leaf.part == part && leaf.trains)
    }

    /// Makes the leaves that learn require gradients, accumulated in place in one flat buffer.
    ///
    /// # Errors
    /// libtorch refusing the buffer (out of memory).
    pub fn train(&mut self) -> Result<(), ModelError> {
        if self.grad.is_some() {
            return Ok(());
        }
        let grad = self.flat.f_zeros_like()?;
        let views = self.split(&grad);
        for ((tensor, leaf), view) in self.tensors.iter().zip(&self.leaves).zip(views) {
            if !leaf.trains {
                continue;
            }
            let _ = tensor.set_requires_grad(true);
            torch_ext::set_grad(tensor, &view)?;
        }
        self.grad = Some(grad);
        Ok(())
    }
}
