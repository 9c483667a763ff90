//! Trajectories packed into micro-batches without padding, a group's prompt once.

use std::rc::Rc;
use std::sync::Arc;

use models::EncodedImages;
use models::LmInput;
use tch::{Device, Tensor};

use crate::config::Aggregation;

/// One row to learn from: a prompt and the tokens whose probability is to change.
#[derive(Debug, Clone)]
pub struct Trajectory {
    /// The prompt's token ids; siblings share the allocation, see [`Self::is_sibling`].
    pub prompt: Arc<[i64]>,
    /// The prompt's pictures, if it shows any.
    pub view: Option<Rc<EncodedImages>>,
    /// The completion's token ids, not empty.
    pub ids: Vec<i64>,
    /// Log-probability of each under the sampler, temperature alone.
    pub sampler_logprobs: Vec<f32>,
    /// Advantage of each of its tokens; in supervised training the answer's weight in the loss.
    pub advantage: f64,
}

impl Trajectory {
    /// Whether both continue the same prompt, which is then computed once for the two: they hold the
    /// very same allocation, as a group's completions do. Equal ids alone do not make siblings: their
    /// pictures may differ.
    pub fn is_sibling(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.prompt, &other.prompt)
    }

    /// Rows that the network computes besides the prompt's: the last token predicts nothing.
    fn own_rows(&self) -> usize {
        self.ids.len() - 1
    }
}

/// What the loss of one update is divided by, over all its micro-batches and ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossNorm {
    /// How token losses are summed up.
    pub aggregation: Aggregation,
    /// Completion tokens of the update on all ranks; in supervised training each with its answer's weight.
    pub tokens: f64,
    /// Completions of the update on all ranks.
    pub sequences: f64,
    /// The constant length of Dr. GRPO, in tokens.
    pub constant: f64,
}

impl LossNorm {
    /// The weight of each token of a completion of `len` tokens.
    pub fn weight(&self, len: usize) -> f64 {
        match self.aggregation {
            Aggregation::TokenMean if self.tokens > 0.0 => 1.0 / self.tokens,
            Aggregation::TokenMean => 1.0,
            Aggregation::SequenceMean => 1.0 / (self.sequences.max(1.0) * len as f64),
            Aggregation::ConstantLength => 1.0 / (self.sequences.max(1.0) * self.constant),
        }
    }
}

/// Packed rows and what is to be learnt of them; tensors are `[n]` over the completion tokens.
pub struct MicroBatch {
    /// The packed rows, their pictures not shown yet.
    pub input: LmInput,
    /// The pictures of the prompts, in order.
    pub views: Vec<Rc<EncodedImages>>,
    /// Row of `input` that predicts each token.
    pub rows: Tensor,
    /// The tokens, int64.
    pub targets: Tensor,
    /// The sampler's log-probabilities, float32.
    pub sampler: Tensor,
    /// Advantages, float32.
    pub advantage: Tensor,
    /// Weights in the loss, float32.
    pub weight: Tensor,
    /// Completion lengths, in order.
    pub lengths: Vec<usize>,
}

impl MicroBatch {
    /// Number of completion tokens.
    pub fn tokens(&self) -> i64 {
        self.targets.size()[0]
    }

    /// Number of rows the network computes.
    pub fn computed_rows(&self) -> i64 {
        self.input.ids.size()[0]
    }
}

/// Packs `trajectories` in order into micro-batches of up to `budget` rows. Neighbouring siblings share
/// their prompt's rows.
pub fn micro_batches(
    trajectories: &[Trajectory],
    norm: &LossNorm,
    budget: usize,
    device: Device,
) -> Vec<MicroBatch> {
    micro_batches_of(trajectories, 1, norm, (budget, device))
}

/// The same with every `together` (>= 1) consecutive trajectories in one micro-batch, whatever their rows
/// are: pairs that a loss compares.
pub fn micro_batches_of(
    trajectories: &[Trajectory],
    together: usize,
    norm: &LossNorm,
    (budget, device): (usize, Device),
) -> Vec<MicroBatch> {
    let mut out = Vec::new();
    let mut start = 0;
    while start < trajectories.len() {
        let mut end = start;
        let mut rows = 0;
        while end < trajectories.len() {
            let next = (end + together).min(trajectories.len());
            let cost: usize = (end..next)
                .map(|at| {
                    let own = &trajectories[at];
                    let shared = at > start && trajectories[at - 1].is_sibling(own);
                    own.own_rows() + if shared { 0 } else { own.prompt.len() }
                })
                .sum();
            if end > start && rows + cost > budget {
                break;
            }
            rows += cost;
            end = next;
        }
        out.push(pack(&trajectories[start..end], norm, device));
        start = end;
    }
    out
}

fn pack(trajectories: &[Trajectory], norm: &LossNorm, device: Device) -> MicroBatch {
    let mut input = LmInput::builder();
    let (mut rows, mut targets, mut sampler) = (Vec::new(), Vec::new(), Vec::new());
    let (mut advantage, mut weight, mut views) = (Vec::new(), Vec::new(), Vec::new());
    for family in trajectories.chunk_by(Trajectory::is_sibling) {
        let prompt = &family[0].prompt;
        let alone = family.len() == 1;
        let own = if alone { family[0].own_rows() } else { 0 };
        let ids = [prompt, &family[0].ids[..own]].concat();
        let first = match &family[0].view {
            None => input.push(&ids, None),
            Some(view) => input.push_with_images(&ids, &view.images.positions),
        };
        views.extend(family[0].view.clone());
        let last_prompt_row = input.rows(first).start + prompt.len() as i64 - 1;
        for trajectory in family {
            let own = match (alone, trajectory.own_rows()) {
                (true, _) | (_, 0) => last_prompt_row + 1,
                _ => {
                    let segment = input.push(&trajectory.ids[..trajectory.own_rows()], Some(first));
                    input.rows(segment).start
                }
            };
            rows.push(last_prompt_row);
            rows.extend(own..own + trajectory.own_rows() as i64);
            targets.extend_from_slice(&trajectory.ids);
            sampler.extend_from_slice(&trajectory.sampler_logprobs);
            let len = trajectory.ids.len();
            advantage.extend(std::iter::repeat_n(trajectory.advantage as f32, len));
            weight.extend(std::iter::repeat_n(norm.weight(len) as f32, len));
        }
    }
    let ints = |values: &[i64]| Tensor::from_slice(values).to_device(device);
    let floats = |values: &[f32]| Tensor::from_slice(values).to_device(device);
    MicroBatch {
        input: input.build(device),
        views,
        rows: ints(&rows),
        targets: ints(&targets),
        sampler: floats(&sampler),
        advantage: floats(&advantage),
        weight: floats(&weight),
        lengths: trajectories
            .iter()
            .map(|trajectory| trajectory.ids.len())
            .collect(),
    }
}
