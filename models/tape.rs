//! Forward and backward through the blocks, with activation recomputation by block.
//!
//! With [`Recompute::Blocks`] only the residual stream between blocks is kept; each block is run
//! again in the backward pass. The arithmetic is the same either way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Decoder, Features, LmInput};

/// Which activations the backward pass computes anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// None: fastest, keeps all.
    #[default]
    None,
    /// Every block's: a third more compute, a fraction of the memory.
    Blocks,
}

/// A forward pass that can be run backward once.
pub struct Tape<'a> {
    model: &'a Decoder,
    input: &'a LmInput,
    /// The residual stream before each block and after the last, detached; empty without recomputation.
    stream: Vec<Tensor>,
    hidden: Tensor,
}

impl<'a> Tape<'a> {
    /// Runs the blocks over `input`.
    pub fn forward(model: &'a Decoder, input: &'a LmInput, recompute: Recompute) -> Self {
        match recompute {
            Recompute::None => Self {
                model,
                input,
                stream: Vec::new(),
                hidden: model.hidden(input),
            },
            Recompute::Blocks => {
                let stream = tch::no_grad(|| {
                    let context = model.context(input);
                    let mut stream = vec![model.embed_inputs(input)];
                    for index in 0..model.num_blocks() {
                        let next = model.block(index, &stream[index], &context, &mut |_, _, _| {});
                        stream.push(next);
                    }
                    stream
                });
                let last = stream
                    .last()
                    .expect("the embedding at least")
                    .detach()
                    .set_requires_grad(true);
                let hidden = model.final_norm(&last);
                let mut tape = Self {
                    model,
                    input,
                    stream,
                    hidden,
                };
                *tape.stream.last_mut().expect("the embedding at least") = last;
                tape
            }
        }
    }

    /// Normalised hidden rows `[T, H]`, attached to the graph.
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Accumulates the gradients of every parameter that learns, and of the input's features where
    /// these are leaves, given that of the hidden rows, `[T, H]`.
    pub fn backward(self, gradient: &Tensor) {
        vjp(&self.hidden, gradient);
        if self.stream.is_empty() {
            return;
        }
        let context = self.model.context(self.input);
        let mut gradient = self.stream[self.model.num_blocks()].grad();
        for index in (0..self.model.num_blocks()).rev() {
            let x = self.stream[index].detach().set_requires_grad(true);
            vjp(
                &self.model.block(index, &x, &context, &mut |_, _, _| {}),
                &gradient,
            );
            gradient = x.grad();
        }
        vjp(&self.model.embed_inputs(self.input), &gradient);
    }
}

/// Back-propagates `gradient` from `y`: the derivative of `sum(y * gradient)`, exactly.
///
/// What depends on nothing that learns (a frozen embedding under text, say) is passed over.
fn vjp(y: &Tensor, gradient: &Tensor) {
    if !y.requires_grad() {
        return;
    }
    (y * gradient.detach()).sum(y.kind()).backward();
}

impl Features {
    /// Back-propagates into what these features were computed from, given the leaves that stood
    /// for them in an input whose tape has run backward.
    pub fn backward(&self, leaves: &[Tensor]) {
        let pairs = self.tensors().zip(leaves);
        let sums: Vec<Tensor> = pairs
            .filter(|(own, leaf)| own.requires_grad() && leaf.grad().defined())
            .map(|(own, leaf)| (own * leaf.grad().detach()).sum(own.kind()))
            .collect();
        // One pass: the features share the tower's graph.
        if !sums.is_empty() {
            Tensor::stack(&sums, 0).sum(None).backward();
        }
    }
}
