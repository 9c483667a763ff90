//! One sequence being decoded.

use models::KvRange;

use super::sampler::SampledTokens;
use crate::engine::stop::Stops;
use crate::engine::{Finished, Request};
use crate::{Completion, DrawKey, FinishReason};

/// A completion's place: its request's number in the submission, its own number among the siblings. The smaller, the
/// older.
pub(super) type Age = (usize, usize);

/// A slot's sequence.
pub(super) struct Slot {
    group: usize,
    index: usize,
    age: Age,
    prompt_len: usize,
    /// Where its keys and values are, until it leaves.
    pub(super) range: Option<KvRange>,
    /// Rotary position of the first token after the prompt.
    next: i64,
    draw: DrawKey,
    exact: Option<usize>,
    ids: Vec<i64>,
    logprobs: Vec<f32>,
    drawn_logprobs: Vec<f32>,
    /// Bytes of the text so far, kept only where stop strings are looked for.
    tail: Vec<u8>,
}

impl Slot {
    /// The completion of `request` that is as old as `age`, its prompt followed by position `next`.
    pub(super) fn new(
        (request, age): (&Request, Age),
        (range, next): (KvRange, i64),
        seed: u64,
    ) -> Self {
        let index = age.1;
        let draw = DrawKey::new(seed, request.draw, index as u64);
        Self {
            age,
            group: request.group,
            index,
            prompt_len: request.ids.len(),
            range: Some(range),
            next,
            draw,
            exact: request
                .lengths
                .as_ref()
                .and_then(|lengths| lengths.get(index).copied()),
            ids: Vec::new(),
            logprobs: Vec::new(),
            drawn_logprobs: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// The uniform number for the next token.
    pub(super) fn uniform(&self) -> f64 {
        self.draw.uniform(self.ids.len() as u64)
    }

    /// The uniform numbers of its first `count` tokens.
    pub(super) fn uniforms(&self, count: usize) -> Vec<f64> {
        (0..count as u64).map(|at| self.draw.uniform(at)).collect()
    }

    pub(super) fn last_token(&self) -> i64 {
        self.ids.last().copied().unwrap_or_default()
    }

    pub(super) fn age(&self) -> Age {
        self.age
    }

    /// Its first row in the cache.
    pub(super) fn start(&self) -> i64 {
        self.range.as_ref().map_or(0, KvRange::start)
    }

    /// Whether its range is full: the next token has no place.
    pub(super) fn is_full(&self) -> bool {
        let rows = self.range.as_ref().map_or(0, KvRange::rows);
        self.position() >= rows
    }

    /// Tokens of the prompt.
    pub(super) fn prompt_len(&self) -> i64 {
        self.prompt_len as i64
    }

    /// Where the last token goes: the number of rows the slot holds for this sequence.
    pub(super) fn position(&self) -> i64 {
        self.ids.len() as i64 - 1
    }

    /// Its rotary position.
    pub(super) fn turn(&self) -> i64 {
        self.next + self.ids.len() as i64 - 1
    }

    pub(super) fn push(&mut self, sampled: &SampledTokens, row: usize, stops: &Stops) {
        self.ids.push(sampled.ids[row]);
        self.logprobs.push(sampled.logprobs[row]);
        self.drawn_logprobs.push(sampled.drawn_logprobs[row]);
        stops.extend(&mut self.tail, &self.ids);
    }

    pub(super) fn finish(&self, stops: &Stops, max_new: usize) -> Option<FinishReason> {
        if let Some(exact) = self.exact {
            return (self.ids.len() >= exact).then_some(FinishReason::Stop);
        }
        if stops.ends(self.last_token()) || stops.find(&self.tail).is_some() {
            return Some(FinishReason::Stop);
        }
        (self.ids.len() >= max_new).then_some(FinishReason::Length)
    }

    pub(super) fn finished(self, finish: FinishReason, stops: &Stops) -> Finished {
        let text = stops.text(&self.ids);
        let completion = Completion {
            ids: self.ids,
            logprobs: self.logprobs,
            drawn_logprobs: self.drawn_logprobs,
            text,
            finish,
            // Who holds the weights knows their version.
            spans: Vec::new(),
        };
        Finished {
            group: self.group,
            index: self.index,
            completion,
        }
    }
}
