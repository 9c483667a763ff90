//! The engine in the learner's own process: continuous batching over slots with the very tensors
//! that are trained, so that weights are never copied.
//!
//! Prompts are prefilled once per group. Requests are admitted in order as slots become free, so
//! the contents of the slots depend on the requests and the seed alone. Left out on purpose:
//! paging, prefix trees over different prompts and preemption.

mod sampler;
mod slots;
mod stop;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use models::vision::{Look, View};
use models::{Decoder, KvCache, LmInput, Prefix, Tokenizer};
use tch::{Kind, Tensor};

pub use sampler::{Sampler, Sampling};
use slots::Slot;
use stop::Stops;

use crate::engine::{Engine, Finished, Request};
use crate::{DrawKey, RolloutError};

/// Prompt rows that are prefilled at once.
const PREFILL_ROWS: usize = 16_384;

/// A request whose completions are not all in slots yet.
struct Waiting {
    request: Request,
    admitted: usize,
    prefix: Option<Rc<Prefix>>,
}

/// Samples from a [`Decoder`] in this process.
pub struct LocalEngine<'a> {
    model: &'a Decoder,
    sampler: Sampler,
    stops: Stops<'a>,
    seed: u64,
    /// Most sequences at a time; 0 is as many as are asked for.
    limit: usize,
    cache: Option<KvCache>,
    slots: Vec<Option<Slot>>,
    queue: Queue,
    prefills: u64,
}

/// What is not in a slot: groups before, completions after.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    done: VecDeque<Finished>,
}

impl<'a> LocalEngine<'a> {
    /// An engine over `model` with up to `slots` sequences at a time (0: as many as are asked
    /// for). Without a tokenizer completions have no text and stop strings are refused.
    ///
    /// # Errors
    /// Stop strings without a tokenizer, or sampling values out of bounds.
    pub fn new(
        model: &'a Decoder,
        tokenizer: Option<&'a Tokenizer>,
        sampling: Sampling,
        (seed, slots): (u64, usize),
    ) -> Result<Self, RolloutError> {
        sampling.check().map_err(RolloutError::Input)?;
        let stops = Stops::new(tokenizer, &sampling)?;
        Ok(Self {
            model,
            sampler: Sampler::never(sampling, model.never(), model.device()),
            stops,
            seed,
            limit: slots,
            cache: None,
            slots: Vec::new(),
            queue: Queue::default(),
            prefills: 0,
        })
    }

    /// Prompts that were run so far: one a group.
    pub fn prefills(&self) -> u64 {
        self.prefills
    }

    fn max_new(&self) -> usize {
        self.sampler.sampling.max_new_tokens
    }

    /// Makes room for all that waits, within the limit.
    fn reserve(&mut self) {
        let longest = self
            .queue
            .waiting
            .iter()
            .map(|waiting| waiting.request.ids.len())
            .max()
            .unwrap_or(0);
        let capacity = (longest + self.max_new()) as i64;
        let asked: usize = self
            .queue
            .waiting
            .iter()
            .map(|waiting| waiting.request.samples)
            .sum();
        let wanted = if self.limit == 0 {
            asked
        } else {
            asked.min(self.limit)
        };
        if wanted > self.slots.len() {
            self.slots.resize_with(wanted, || None);
        }
        let slots = self.slots.len() as i64;
        let fits = self
            .cache
            .as_ref()
            .is_some_and(|cache| cache.slots() >= slots && cache.capacity() >= capacity);
        if !fits {
            self.cache = None;
            self.cache = Some(KvCache::new(self.model, slots, capacity));
        }
    }

    fn idle(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Fills free slots from the queue; freshly admitted sequences draw their first token.
    fn admit(&mut self) -> Result<(), RolloutError> {
        let mut free: VecDeque<usize> = (0..self.slots.len())
            .filter(|&index| self.slots[index].is_none())
            .collect();
        if free.is_empty() || self.queue.waiting.is_empty() {
            return Ok(());
        }
        self.prefill(free.len())?;
        let Some(cache) = &mut self.cache else {
            return Ok(());
        };
        let mut rows = Vec::new();
        let mut hidden = Vec::new();
        while let Some(waiting) = self.queue.waiting.front_mut() {
            let Some(prefix) = waiting.prefix.clone() else {
                break;
            };
            while waiting.admitted < waiting.request.samples {
                let Some(index) = free.pop_front() else { break };
                cache.admit(&prefix, index as i64);
                let draw = DrawKey::new(self.seed, waiting.request.draw, waiting.admitted as u64);
                self.slots[index] = Some(Slot::new(&waiting.request, waiting.admitted, draw));
                rows.push(index);
                hidden.push(prefix.hidden.shallow_clone());
                waiting.admitted += 1;
            }
            if waiting.admitted < waiting.request.samples {
                break;
            }
            self.queue.waiting.pop_front();
        }
        self.draw(&rows, &Tensor::cat(&hidden, 0))
    }

    /// Runs the prompts at the head of the queue that will find one of `free` slots.
    fn prefill(&mut self, free: usize) -> Result<(), RolloutError> {
        let mut room = free;
        let mut batch: Vec<usize> = Vec::new();
        let mut views: Vec<Rc<View>> = Vec::new();
        let mut input = LmInput::builder();
        for index in 0..self.queue.waiting.len() {
            let waiting = &self.queue.waiting[index];
            if room == 0 {
                break;
            }
            room = room.saturating_sub(waiting.request.samples - waiting.admitted);
            if waiting.prefix.is_some() {
                continue;
            }
            if !batch.is_empty() && input.len() + waiting.request.ids.len() > PREFILL_ROWS {
                let packed = (std::mem::take(&mut input), std::mem::take(&mut views));
                self.run_prefill(std::mem::take(&mut batch), packed)?;
            }
            batch.push(index);
            let request = &self.queue.waiting[index].request;
            match &request.view {
                None => input.push(&request.ids, None),
                Some(view) => input.push_seeing(&request.ids, &view.shown.sight),
            };
            views.extend(request.view.clone());
        }
        match batch.is_empty() {
            true => Ok(()),
            false => self.run_prefill(batch, (input, views)),
        }
    }

    fn run_prefill(
        &mut self,
        batch: Vec<usize>,
        (input, views): (models::LmInputBuilder, Vec<Rc<View>>),
    ) -> Result<(), RolloutError> {
        self.prefills += batch.len() as u64;
        let features = self.model.features(&views, Look::Kept)?;
        let input = input.build(self.model.device()).showing(features);
        for (index, prefix) in batch.into_iter().zip(KvCache::prefill(self.model, &input)) {
            self.queue.waiting[index].prefix = Some(Rc::new(prefix));
        }
        Ok(())
    }

    /// Draws one token for each of `rows` (slot numbers) from its hidden row `[n, H]`.
    fn draw(&mut self, rows: &[usize], hidden: &Tensor) -> Result<(), RolloutError> {
        if rows.is_empty() {
            return Ok(());
        }
        let logits = self.model.logits(hidden).to_kind(Kind::Float);
        let uniforms: Vec<f64> = rows
            .iter()
            .filter_map(|&index| self.slots[index].as_ref().map(Slot::uniform))
            .collect();
        let drawn = self.sampler.draw(&logits, &uniforms)?;
        for (row, &index) in rows.iter().enumerate() {
            let Some(slot) = &mut self.slots[index] else {
                continue;
            };
            slot.push(&drawn, row, &self.stops);
            if let Some(finish) = slot.finish(&self.stops, self.sampler.sampling.max_new_tokens) {
                let slot = self.slots[index].take().expect("it was there a line ago");
                self.queue
                    .done
                    .push_back(slot.finished(finish, &self.stops));
            }
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<(), RolloutError> {
        let (mut rows, mut ids) = (Vec::new(), Vec::new());
        let (mut positions, mut turns) = (Vec::new(), Vec::new());
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            rows.push(index);
            ids.push(slot.last_token());
            positions.push(slot.position());
            turns.push(slot.turn());
        }
        let Some(cache) = &mut self.cache else {
            return Ok(());
        };
        let device = self.model.device();
        let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        let slots: Vec<i64> = rows.iter().map(|&index| index as i64).collect();
        let step = models::DecodeRows {
            ids: tensor(&ids),
            slots: tensor(&slots),
            positions: tensor(&positions),
            turns: tensor(&turns),
            longest: positions.iter().copied().max().unwrap_or(0),
        };
        let hidden = cache.decode(self.model, &step)?;
        self.draw(&rows, &hidden)
    }

    fn advance(&mut self) -> Result<(), RolloutError> {
        self.admit()?;
        if self.queue.done.is_empty() && !self.idle() {
            self.decode()?;
        }
        Ok(())
    }
}

impl Engine for LocalEngine<'_> {
    fn submit(&mut self, requests: Vec<Request>) -> Result<(), RolloutError> {
        if let Some(empty) = requests.iter().find(|request| request.ids.is_empty()) {
            return Err(RolloutError::Input(format!(
                "prompt {} has no tokens",
                empty.group
            )));
        }
        if !self.idle() || !self.queue.waiting.is_empty() {
            return Err(RolloutError::Input(
                "requests were submitted while others are still decoding".into(),
            ));
        }
        self.queue
            .waiting
            .extend(requests.into_iter().map(|request| Waiting {
                request,
                admitted: 0,
                prefix: None,
            }));
        catch_unwind(AssertUnwindSafe(|| self.reserve()))
            .map_err(|panic| RolloutError::Torch(models::panic_words(panic.as_ref())))
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        while self.queue.done.is_empty() && !(self.idle() && self.queue.waiting.is_empty()) {
            if stop() {
                return Err(RolloutError::Stopped);
            }
            let step = catch_unwind(AssertUnwindSafe(|| tch::no_grad(|| self.advance())));
            step.map_err(|panic| RolloutError::Torch(models::panic_words(panic.as_ref())))??;
        }
        Ok(self.queue.done.pop_front())
    }
}
