//! What a GPU decodes from: the numbers of all rows in tensors that stay in their places and that a step moves on by
//! itself, so that the host waits once a token, for the ids and log-probabilities, and a CUDA graph can hold the step.
//!
//! - The host writes the rows anew, in one copy, only when one of them changed: a completion came, ended, or moved
//!   within the cache. They are packed then, so that a step has few more rows than there are completions: their number
//!   is rounded up ([`rounded_up`]), and each of these numbers gets a graph of its own when it comes the second time.
//!   Rows without a completion write to a page that nobody reads.
//! - A token's uniform number is that of its completion's key and its place ([`crate::DrawKey`]), in a table that is
//!   written when the completion comes: tokens depend neither on the rows nor on the graph.
//! - Where a graph cannot be captured, by a build without CUDA for instance, the same step runs operator by operator.
//!   Where the cache is not read in place the step's shapes follow the longest completion, and nothing is captured.
//!
//! Left out on purpose: a step that starts before the host has read the one before it.

use std::collections::BTreeMap;

use models::{CudaGraph, DecodeRows, Decoder, KV_PAGE, KvCache};
use tch::{Device, Kind, Tensor};

use super::sampler::{SampledTokens, Sampler};
use super::slots::Slot;
use crate::RolloutError;

/// Rows of [`DeviceRows::numbers`].
#[derive(Debug, Clone, Copy)]
enum Field {
    /// The token that is fed.
    Id,
    /// Where the prompt is, and how long it is.
    PromptStart,
    PromptLen,
    /// Where the row's own range is.
    Start,
    /// The token's place in it, its rotary position, and the place of the next one's uniform number: what a step moves
    /// on by one, in this order.
    Position,
    Turn,
    Uniform,
    /// 1 where there is a completion, else 0: how far a step moves on.
    Active,
}

const FIELDS: usize = 8;

/// The rows that are decoded on a GPU.
pub(super) struct DeviceRows {
    /// `[FIELDS, n]` int64 by [`Field`].
    numbers: Tensor,
    /// Uniform numbers of each slot's tokens, `[slots * longest]` float64.
    uniforms: Tensor,
    /// What was drawn last, `[n, 3]` float64.
    drawn: Tensor,
    /// The slot of each row.
    slots: Vec<usize>,
    /// Whether the host must write the rows before the next step.
    changed: bool,
    /// First row of the page that nobody reads.
    spare: i64,
    bounds: RowBounds,
    graphs: StepGraphs,
}

/// What never changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowBounds {
    /// Completions at a time.
    pub(super) slots: usize,
    /// Tokens of the longest completion.
    pub(super) longest: usize,
    /// No prompt and no completion has more.
    pub(super) most_rows: usize,
}

/// Who works with the rows.
pub(super) struct StepParts<'a> {
    pub(super) model: &'a Decoder,
    pub(super) cache: &'a mut KvCache,
    pub(super) sampler: &'a Sampler,
    pub(super) slots: &'a [Option<Slot>],
    /// Where a slot's prompt starts in the cache.
    pub(super) prompt_start: &'a dyn Fn(&Slot) -> i64,
}

/// The captured steps by their number of rows.
#[derive(Default)]
struct StepGraphs {
    /// None yet: it ran once, operator by operator.
    by_rows: BTreeMap<i64, Option<CudaGraph>>,
    /// Why nothing is captured any more.
    failed: Option<String>,
}

/// How many rows a step with `count` completions has: so many sizes that few rows are idle, so few that capturing
/// them takes no time.
fn rounded_up(count: usize) -> i64 {
    let rows = match count {
        0..=16 => 16,
        17..=64 => count.next_power_of_two(),
        _ => count.next_multiple_of(64),
    };
    rows as i64
}

impl DeviceRows {
    /// Rows for `bounds` on `device`, idle ones at `spare` in the cache.
    pub(super) fn new(bounds: RowBounds, spare: i64, device: Device) -> Self {
        let rows = rounded_up(bounds.slots);
        let zeros = |shape: &[i64], kind| Tensor::zeros(shape, (kind, device));
        Self {
            numbers: zeros(&[FIELDS as i64, rows], Kind::Int64),
            uniforms: zeros(&[(bounds.slots * bounds.longest) as i64], Kind::Double),
            drawn: zeros(&[rows, 3], Kind::Double),
            slots: Vec::new(),
            changed: true,
            spare,
            bounds,
            graphs: StepGraphs::default(),
        }
    }

    /// The host must write the rows before the next step.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    /// A completion has come into slot `index`.
    pub(super) fn come(&mut self, index: usize, slot: &Slot) {
        self.changed = true;
        let longest = self.bounds.longest;
        let row = sent(&slot.uniforms(longest), &self.uniforms);
        self.uniforms
            .narrow(0, (index * longest) as i64, longest as i64)
            .copy_(&row);
    }

    /// Feeds each completion's last token and draws its next; the slots of the rows, and what was drawn.
    pub(super) fn step(
        &mut self,
        parts: &mut StepParts,
    ) -> Result<(Vec<usize>, SampledTokens), RolloutError> {
        if self.changed {
            self.write(parts);
            self.changed = false;
        }
        self.run(parts)?;
        let drawn = self.drawn.narrow(0, 0, self.slots.len() as i64);
        Ok((self.slots.clone(), SampledTokens::unpack(&drawn)?))
    }

    /// How many kernels and copies the largest graph starts with one launch; 0 without a graph.
    pub(super) fn graph_nodes(&self) -> u64 {
        let nodes = self.graphs.by_rows.values().flatten();
        nodes.map(CudaGraph::nodes).max().unwrap_or(0)
    }

    /// Writes all rows.
    fn write(&mut self, parts: &StepParts) {
        let slots = parts.slots.iter().enumerate();
        let busy: Vec<(usize, &Slot)> = slots
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
            .collect();
        let rows = rounded_up(busy.len());
        let longest = self.bounds.longest as i64;
        let field = |field: Field, row: i64| match busy.get(row as usize) {
            Some((index, slot)) => match field {
                Field::Id => slot.last_token(),
                Field::PromptStart => (parts.prompt_start)(slot),
                Field::PromptLen => slot.prompt_len(),
                Field::Start => slot.start(),
                Field::Position => slot.position(),
                Field::Turn => slot.turn(),
                Field::Uniform => *index as i64 * longest + slot.position() + 1,
                Field::Active => 1,
            },
            None => match field {
                Field::PromptStart => self.spare,
                Field::PromptLen => 1,
                Field::Start => self.spare + (row - busy.len() as i64) % KV_PAGE,
                Field::Id | Field::Position | Field::Turn | Field::Uniform | Field::Active => 0,
            },
        };
        let fields = [
            Field::Id,
            Field::PromptStart,
            Field::PromptLen,
            Field::Start,
            Field::Position,
            Field::Turn,
            Field::Uniform,
            Field::Active,
        ];
        let numbers = fields
            .into_iter()
            .flat_map(|each| (0..rows).map(move |row| (each, row)))
            .map(|(each, row)| field(each, row));
        let numbers = sent(&numbers.collect::<Vec<_>>(), &self.numbers);
        self.numbers
            .narrow(1, 0, rows)
            .copy_(&numbers.view([FIELDS as i64, rows]));
        self.slots = busy.iter().map(|(index, _)| *index).collect();
    }

    /// One step of all rows, by a graph where there is one.
    fn run(&mut self, parts: &mut StepParts) -> Result<(), RolloutError> {
        let rows = rounded_up(self.slots.len());
        // A graph keeps the addresses of weights; those that come and go have others each time.
        let stay = !parts.model.params.come_and_go();
        let capturable = stay && parts.cache.is_read_in_place() && self.graphs.failed.is_none();
        match self.graphs.by_rows.get(&rows) {
            _ if !capturable => return self.operators(rows, parts),
            Some(Some(graph)) => return Ok(graph.replay().map_err(models::ModelError::from)?),
            None => {
                self.graphs.by_rows.insert(rows, None);
                return self.operators(rows, parts);
            }
            Some(None) => {}
        }
        let device = parts.model.device();
        let beside = self.graphs.by_rows.values().flatten().next();
        match CudaGraph::capture(device, beside, || self.operators(rows, parts)) {
            Ok(graph) => {
                let replayed = graph.replay().map_err(models::ModelError::from);
                self.graphs.by_rows.insert(rows, Some(graph));
                Ok(replayed?)
            }
            Err(error) => {
                tracing::debug!("decoding runs without CUDA graphs: {error}");
                self.graphs.failed = Some(error.to_string());
                self.operators(rows, parts)
            }
        }
    }

    /// The step itself: nothing in it waits for the GPU.
    fn operators(&self, rows: i64, parts: &mut StepParts) -> Result<(), RolloutError> {
        let field = |field: Field| self.numbers.get(field as i64).narrow(0, 0, rows);
        let busy = || self.slots.iter().filter_map(|&at| parts.slots[at].as_ref());
        let most = |number: fn(&Slot) -> i64| busy().map(number).max().unwrap_or(1);
        let step = DecodeRows {
            ids: field(Field::Id),
            prompt_starts: field(Field::PromptStart),
            prompt_lengths: field(Field::PromptLen),
            starts: field(Field::Start),
            positions: field(Field::Position),
            position_ids: field(Field::Turn),
            longest_prompt: most(Slot::prompt_len),
            largest_position: most(Slot::position),
            most_rows: self.bounds.most_rows as i64,
        };
        let hidden = parts.cache.decode(parts.model, &step)?;
        let logits = parts.model.logits(&hidden).to_kind(Kind::Float);
        let uniforms = self.uniforms.take(&field(Field::Uniform));
        let drawn = parts.sampler.draw(&logits, &uniforms);
        self.drawn.narrow(0, 0, rows).copy_(&drawn.packed());
        field(Field::Id).copy_(&drawn.ids());
        let mut moving = self
            .numbers
            .narrow(0, Field::Position as i64, 3)
            .narrow(1, 0, rows);
        moving += field(Field::Active);
        Ok(())
    }
}

/// `numbers` on the device of `like`, without waiting for it.
fn sent<T: tch::kind::Element>(numbers: &[T], like: &Tensor) -> Tensor {
    Tensor::from_slice(numbers).to_device_(like.device(), T::KIND, true, false)
}
