//! The engine in the learner's own process: continuous batching over slots with the very tensors
//! that are trained, so that weights are never copied.
//!
//! Prompts are prefilled once per group, into a page that all its completions read. Requests are admitted in order as slots become free, so
//! the contents of the slots depend on the requests and the seed alone. Left out on purpose:
//! paging, prefix trees over different prompts and preemption.

mod sampler;
mod slots;
mod stop;

use std::collections::VecDeque;
use std::rc::Rc;

use models::{Decoder, KvCache, KvCapacity, LmInput, Tokenizer};
use models::{EncodedImages, VisionFeatures};
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
    prompt: Option<Prompted>,
}

/// A prompt that was run.
struct Prompted {
    /// Where its keys and values are.
    page: usize,
    /// What its last token predicts, `[1, H]`.
    hidden: Tensor,
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
    /// How many completions still need each page of prompts; 0 where it is free.
    pages: Vec<usize>,
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
            sampler: Sampler::never(sampling, model.suppress_tokens(), model.device()),
            stops,
            seed,
            limit: slots,
            cache: None,
            slots: Vec::new(),
            pages: Vec::new(),
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
        let requests = || self.queue.waiting.iter().map(|waiting| &waiting.request);
        let asked: usize = requests().map(|request| request.samples).sum();
        let longest = requests().map(|request| request.ids.len()).max();
        let slots = match self.limit {
            0 => asked,
            limit => asked.min(limit),
        };
        let slots = slots.max(self.slots.len());
        // Whatever holds a page has a slot, or is about to get one.
        let pages = requests().count().min(slots).max(self.pages.len());
        let room = KvCapacity {
            prompts: pages as i64,
            prompt_tokens: longest.unwrap_or(0) as i64,
            slots: slots as i64,
            new_tokens: self.max_new() as i64,
        };
        self.slots.resize_with(slots, || None);
        self.pages.resize(pages, 0);
        if !self
            .cache
            .as_ref()
            .is_some_and(|cache| cache.capacity().holds(&room))
        {
            self.cache = None;
            self.cache = Some(KvCache::new(self.model, room));
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
        let mut rows = Vec::new();
        let mut hidden = Vec::new();
        while let Some(waiting) = self.queue.waiting.front_mut() {
            let Some(prompt) = &waiting.prompt else {
                break;
            };
            while waiting.admitted < waiting.request.samples {
                let Some(index) = free.pop_front() else { break };
                let draw = DrawKey::new(self.seed, waiting.request.draw, waiting.admitted as u64);
                self.slots[index] = Some(Slot::new(
                    (&waiting.request, waiting.admitted),
                    prompt.page,
                    draw,
                ));
                rows.push(index);
                hidden.push(prompt.hidden.shallow_clone());
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
        let mut views: Vec<Rc<EncodedImages>> = Vec::new();
        let mut input = LmInput::builder();
        for index in 0..self.queue.waiting.len() {
            let waiting = &self.queue.waiting[index];
            if room == 0 {
                break;
            }
            room = room.saturating_sub(waiting.request.samples - waiting.admitted);
            if waiting.prompt.is_some() {
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
                Some(view) => input.push_with_images(&request.ids, &view.images.positions),
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
        (input, views): (models::LmInputBuilder, Vec<Rc<EncodedImages>>),
    ) -> Result<(), RolloutError> {
        self.prefills += batch.len() as u64;
        let features = self.model.features(&views, VisionFeatures::Cached)?;
        let input = input.build(self.model.device()).with_features(features);
        let free = (0..self.pages.len()).filter(|&page| self.pages[page] == 0);
        let pages: Vec<i64> = free.take(batch.len()).map(|page| page as i64).collect();
        let Some(cache) = self.cache.as_mut().filter(|_| pages.len() == batch.len()) else {
            return Err(RolloutError::Torch("no page is left for a prompt".into()));
        };
        let hidden = cache.prefill(self.model, &input, &pages);
        for (index, (page, hidden)) in batch.into_iter().zip(pages.into_iter().zip(hidden)) {
            let (waiting, page) = (&mut self.queue.waiting[index], page as usize);
            self.pages[page] = waiting.request.samples;
            waiting.prompt = Some(Prompted { page, hidden });
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
                self.pages[slot.page()] -= 1;
                self.queue
                    .done
                    .push_back(slot.finished(finish, &self.stops));
            }
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<(), RolloutError> {
        let Some(cache) = &mut self.cache else {
            return Ok(());
        };
        let busy = || {
            self.slots
                .iter()
                .enumerate()
                .filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
        };
        let device = self.model.device();
        let each = |number: fn(usize, &Slot) -> i64| {
            let numbers: Vec<i64> = busy().map(|(at, slot)| number(at, slot)).collect();
            Tensor::from_slice(&numbers).to_device(device)
        };
        let most =
            |number: fn(&Slot) -> i64| busy().map(|(_, slot)| number(slot)).max().unwrap_or(0);
        let step = models::DecodeRows {
            ids: each(|_, slot| slot.last_token()),
            pages: each(|_, slot| slot.page() as i64),
            prompts: each(|_, slot| slot.prompt_len()),
            slots: each(|at, _| at as i64),
            positions: each(|_, slot| slot.position()),
            position_ids: each(|_, slot| slot.turn()),
            longest_prompt: most(Slot::prompt_len),
            largest_position: most(Slot::position),
        };
        let rows: Vec<usize> = busy().map(|(at, _)| at).collect();
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
                prompt: None,
            }));
        models::catch_torch(|| self.reserve()).map_err(RolloutError::Torch)
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        while self.queue.done.is_empty() && !(self.idle() && self.queue.waiting.is_empty()) {
            if stop() {
                return Err(RolloutError::Stopped);
            }
            models::catch_torch(|| tch::no_grad(|| self.advance()))
                .map_err(RolloutError::Torch)??;
        }
        Ok(self.queue.done.pop_front())
    }
}
