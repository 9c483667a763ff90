//! Forward and backward through the blocks, with activation recomputation by block.
//!
//! With [`Recompute::Blocks`] only the residual stream between blocks is kept; each block is run
//! again in the backward pass. Where weights or gradients come and go by units, each block has a graph of its
//! own, so that its gradients are complete when its turn is over. The arithmetic is the same either way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::decoder_block::BlockContext;
use crate::units::{EMBEDDING_UNIT, FIRST_BLOCK_UNIT};
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
    /// What lies between the parts of the network; none where one graph holds it all.
    stream: Option<CutStream>,
    hidden: Tensor,
}

/// The residual stream, cut between the parts.
struct CutStream {
    /// With the graph of the embedding.
    embedded: Tensor,
    /// Before each block and after the last, a leaf each; without a graph behind it.
    inputs: Vec<Tensor>,
    /// After each block, with that block's graph; empty where blocks are computed anew.
    outputs: Vec<Tensor>,
}

impl<'a> Tape<'a> {
    /// Runs the blocks over `input`.
    pub fn forward(model: &'a Decoder, input: &'a LmInput, recompute: Recompute) -> Self {
        if recompute == Recompute::None && !model.params.is_taken_by_units() {
            return Self {
                model,
                input,
                stream: None,
                hidden: model.hidden(input),
            };
        }
        let params = &model.params;
        let context = model.context(input);
        let first = Some(FIRST_BLOCK_UNIT);
        let embedded = params.within(EMBEDDING_UNIT, first, || model.embed_inputs(input));
        let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
        let mut inputs = vec![leaf(&embedded)];
        let mut outputs = Vec::new();
        for index in 0..model.num_blocks() {
            let unit = FIRST_BLOCK_UNIT + index;
            let run = || run_block(model, index, &inputs[index], &context);
            let next = params.within(unit, Some(unit + 1), || match recompute {
                Recompute::Blocks => tch::no_grad(run),
                Recompute::None => run(),
            });
            inputs.push(leaf(&next));
            if recompute == Recompute::None {
                outputs.push(next);
            }
        }
        let last = &inputs[model.num_blocks()];
        let hidden = params.within(model.config.norm_unit(), None, || model.final_norm(last));
        Self {
            model,
            input,
            stream: Some(CutStream {
                embedded,
                inputs,
                outputs,
            }),
            hidden,
        }
    }

    /// Normalised hidden rows `[T, H]`, attached to the graph.
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Accumulates the gradients of every parameter that learns, and of the input's features where
    /// these are leaves, given that of the hidden rows, `[T, H]`.
    pub fn backward(self, gradient: &Tensor) {
        let Some(mut stream) = self.stream else {
            return vjp(&self.hidden, gradient);
        };
        let (model, hidden) = (self.model, self.hidden);
        let context = model.context(self.input);
        backward_units(model, &mut |part| match part {
            TapePart::Norm => vjp(&hidden, gradient),
            TapePart::Block(index) => {
                let above = stream.inputs[index + 1].grad();
                stream.inputs.truncate(index + 1);
                match stream.outputs.pop() {
                    Some(output) => vjp(&output, &above),
                    None => {
                        let output = run_block(model, index, &stream.inputs[index], &context);
                        vjp(&output, &above);
                    }
                }
            }
            TapePart::Embedding => vjp(&stream.embedded, &stream.inputs[0].grad()),
        });
    }

    /// Takes part in what all ranks do for the forward pass of one of them, of [`Decoder::hidden`] too, without
    /// computing.
    pub fn idle_forward(model: &Decoder) {
        let params = &model.params;
        params.within(EMBEDDING_UNIT, Some(FIRST_BLOCK_UNIT), || ());
        for unit in FIRST_BLOCK_UNIT..model.config.norm_unit() {
            params.within(unit, Some(unit + 1), || ());
        }
        params.within(model.config.norm_unit(), None, || ());
    }

    /// Takes part in what all ranks do for the backward pass of one of them, without computing.
    pub fn idle_backward(model: &Decoder) {
        backward_units(model, &mut |_| ());
    }
}

/// What is run backward at a time.
enum TapePart {
    Norm,
    Block(usize),
    Embedding,
}

/// The units in the order of the backward pass, the head's apart: each with its weights and room for its gradients.
fn backward_units(model: &Decoder, run: &mut dyn FnMut(TapePart)) {
    let params = &model.params;
    let mut unit = model.config.norm_unit();
    for index in (0..=model.num_blocks()).rev() {
        params.gradient_room(unit);
        let next = Some(unit - 1).filter(|next| *next >= FIRST_BLOCK_UNIT);
        let part = match index == model.num_blocks() {
            true => TapePart::Norm,
            false => TapePart::Block(index),
        };
        params.within(unit, next, || run(part));
        params.gradient_ready(unit);
        unit -= 1;
    }
    // An embedding's gradient needs no weights.
    params.gradient_room(EMBEDDING_UNIT);
    run(TapePart::Embedding);
    params.gradient_ready(EMBEDDING_UNIT);
}

fn run_block(model: &Decoder, index: usize, x: &Tensor, context: &BlockContext) -> Tensor {
    model.block(index, x, context, &mut |_, _, _| {})
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
