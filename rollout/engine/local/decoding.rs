//! One submission being decoded: prompts are prefilled once a group, completions take slots as they
//! become free, every slot draws one token at a time.
//!
//! Requests are admitted in order, so the contents of the slots depend on the submission alone. Left
//! out on purpose: paging, prefix trees over different prompts and preemption.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use models::{
    AdapterMode, Decoder, EncodedImages, KvCache, KvCapacity, LmInput, LmInputBuilder, Tokenizer,
    VisionFeatures,
};
use tch::{Kind, Tensor};

use super::sampler::Sampler;
use super::slots::Slot;
use super::stop::Stops;
use crate::engine::{EngineStats, Finished, Request, Submission};
use crate::{DrawKey, RolloutError};

/// Prompt rows that are prefilled at once.
const PREFILL_ROWS: usize = 16_384;

/// A request whose completions are not all in slots yet.
struct WaitingRequest {
    request: Request,
    /// The prompt's pictures, encoded.
    view: Option<Rc<EncodedImages>>,
    admitted: usize,
    prompt: Option<Prefilled>,
}

/// A prompt that was run.
struct Prefilled {
    /// Where its keys and values are.
    page: usize,
    /// What its last token predicts, `[1, H]`.
    hidden: Tensor,
}

/// Prompts that are run together.
struct Packed {
    /// Their places in the queue.
    waiting: Vec<usize>,
    input: LmInputBuilder,
    views: Vec<Rc<EncodedImages>>,
}

/// A submission's sequences, and the cache that holds them.
pub(super) struct Decoding {
    sampler: Sampler,
    stops: Stops,
    seed: u64,
    cache: Option<KvCache>,
    slots: Vec<Option<Slot>>,
    /// How many completions still need each page of prompts; 0 where it is free.
    pages: Vec<usize>,
    queue: Queue,
}

/// What is not in a slot: groups before, completions after.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<WaitingRequest>,
    done: VecDeque<Finished>,
}

impl Decoding {
    /// Room for `submission`, whose pictures were encoded as `views`, one each request that has any; at
    /// most `limit` sequences at a time (0: all).
    ///
    /// # Errors
    /// Stop strings without a tokenizer, sampling values out of bounds.
    pub(super) fn new(
        model: &Decoder,
        tokenizer: Option<Arc<Tokenizer>>,
        submission: Submission,
        views: Vec<Rc<EncodedImages>>,
        limit: usize,
    ) -> Result<Self, RolloutError> {
        // Image tokens, and rows of the head that are no tokens at all.
        let mut suppressed = model.suppress_tokens().to_vec();
        if let Some(tokenizer) = &tokenizer {
            suppressed.extend(tokenizer.unused_ids(model.config.vocab_size));
        }
        let stops = Stops::new(tokenizer, &submission.sampling)?;
        let mut views = views.into_iter();
        let waiting = submission
            .requests
            .into_iter()
            .map(|request| WaitingRequest {
                view: request.images.as_ref().and_then(|_| views.next()),
                request,
                admitted: 0,
                prompt: None,
            });
        let mut decoding = Self {
            sampler: Sampler::suppressing(submission.sampling, &suppressed, model.device()),
            stops,
            seed: submission.seed,
            cache: None,
            slots: Vec::new(),
            pages: Vec::new(),
            queue: Queue {
                waiting: waiting.collect(),
                done: VecDeque::new(),
            },
        };
        decoding.reserve(model, limit);
        Ok(decoding)
    }

    /// A completion that has ended and was not handed out yet.
    pub(super) fn pop(&mut self) -> Option<Finished> {
        self.queue.done.pop_front()
    }

    /// Whether nothing is left to decode or to hand out.
    pub(super) fn is_done(&self) -> bool {
        self.queue.done.is_empty() && self.queue.waiting.is_empty() && self.idle()
    }

    fn max_new(&self) -> usize {
        self.sampler.sampling.max_new_tokens
    }

    /// Room for all that waits, at most `limit` sequences at a time (0: all).
    fn reserve(&mut self, model: &Decoder, limit: usize) {
        let requests = || self.queue.waiting.iter().map(|waiting| &waiting.request);
        let asked: usize = requests().map(|request| request.samples).sum();
        let longest = requests().map(|request| request.ids.len()).max();
        let slots = match limit {
            0 => asked,
            limit => asked.min(limit),
        };
        // Whatever holds a page has a slot, or is about to get one.
        let pages = requests().count().min(slots);
        let room = KvCapacity {
            prompts: pages as i64,
            prompt_tokens: longest.unwrap_or(0) as i64,
            slots: slots as i64,
            new_tokens: self.max_new() as i64,
        };
        self.slots.resize_with(slots, || None);
        self.pages.resize(pages, 0);
        self.cache = Some(KvCache::new(model, room));
    }

    fn idle(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Fills free slots from the queue; freshly admitted sequences draw their first token.
    fn admit(&mut self, model: &Decoder, stats: &mut EngineStats) -> Result<(), RolloutError> {
        let mut free: VecDeque<usize> = (0..self.slots.len())
            .filter(|&index| self.slots[index].is_none())
            .collect();
        if free.is_empty() || self.queue.waiting.is_empty() {
            return Ok(());
        }
        self.prefill(model, free.len(), stats)?;
        let mut rows = Vec::new();
        let mut hidden = Vec::new();
        while let Some(waiting) = self.queue.waiting.front_mut() {
            let Some(prompt) = &waiting.prompt else {
                break;
            };
            while waiting.admitted < waiting.request.samples {
                let Some(index) = free.pop_front() else { break };
                let draw = DrawKey::new(self.seed, waiting.request.draw, waiting.admitted as u64);
                let next = match &waiting.view {
                    Some(view) => view.images.positions.next,
                    None => waiting.request.ids.len() as i64,
                };
                self.slots[index] = Some(Slot::new(
                    (&waiting.request, waiting.admitted),
                    (prompt.page, next),
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
        self.sample_tokens(model, &rows, &Tensor::cat(&hidden, 0), stats)
    }

    /// Runs the prompts at the head of the queue that will find one of `free` slots.
    fn prefill(
        &mut self,
        model: &Decoder,
        free: usize,
        stats: &mut EngineStats,
    ) -> Result<(), RolloutError> {
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
                let prompts = Packed {
                    waiting: std::mem::take(&mut batch),
                    input: std::mem::take(&mut input),
                    views: std::mem::take(&mut views),
                };
                self.run_prefill(model, prompts, stats)?;
            }
            batch.push(index);
            let WaitingRequest { request, view, .. } = &self.queue.waiting[index];
            match view {
                None => input.push(&request.ids, None),
                Some(view) => input.push_with_images(&request.ids, &view.images.positions),
            };
            views.extend(view.clone());
        }
        match batch.is_empty() {
            true => Ok(()),
            false => {
                let prompts = Packed {
                    waiting: batch,
                    input,
                    views,
                };
                self.run_prefill(model, prompts, stats)
            }
        }
    }

    fn run_prefill(
        &mut self,
        model: &Decoder,
        prompts: Packed,
        stats: &mut EngineStats,
    ) -> Result<(), RolloutError> {
        let count = prompts.waiting.len();
        let _span = tracing::trace_span!("prefill", prompts = count).entered();
        stats.prefills += count as u64;
        let features = model.features(&prompts.views, VisionFeatures::Cached, AdapterMode::On)?;
        let input = prompts.input.build(model.device()).with_features(features);
        let free = (0..self.pages.len()).filter(|&page| self.pages[page] == 0);
        let pages: Vec<i64> = free.take(count).map(|page| page as i64).collect();
        let Some(cache) = self.cache.as_mut().filter(|_| pages.len() == count) else {
            return Err(RolloutError::Torch("no page is left for a prompt".into()));
        };
        let hidden = cache.prefill(model, &input, &pages);
        for (index, (page, hidden)) in prompts
            .waiting
            .into_iter()
            .zip(pages.into_iter().zip(hidden))
        {
            let (waiting, page) = (&mut self.queue.waiting[index], page as usize);
            self.pages[page] = waiting.request.samples;
            waiting.prompt = Some(Prefilled { page, hidden });
        }
        Ok(())
    }

    /// Samples one token for each of `rows` (slot numbers) from its hidden row `[n, H]`.
    fn sample_tokens(
        &mut self,
        model: &Decoder,
        rows: &[usize],
        hidden: &Tensor,
        stats: &mut EngineStats,
    ) -> Result<(), RolloutError> {
        if rows.is_empty() {
            return Ok(());
        }
        let logits = model.logits(hidden).to_kind(Kind::Float);
        let uniforms: Vec<f64> = rows
            .iter()
            .filter_map(|&index| self.slots[index].as_ref().map(Slot::uniform))
            .collect();
        stats.tokens += rows.len() as u64;
        let sampled = self.sampler.sample_tokens(&logits, &uniforms)?;
        for (row, &index) in rows.iter().enumerate() {
            let Some(slot) = &mut self.slots[index] else {
                continue;
            };
            slot.push(&sampled, row, &self.stops);
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

    fn decode(&mut self, model: &Decoder, stats: &mut EngineStats) -> Result<(), RolloutError> {
        let Some(cache) = &mut self.cache else {
            return Ok(());
        };
        let busy = || {
            self.slots
                .iter()
                .enumerate()
                .filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
        };
        let device = model.device();
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
        let _span = tracing::trace_span!("decode", sequences = rows.len()).entered();
        let hidden = cache.decode(model, &step)?;
        self.sample_tokens(model, &rows, &hidden, stats)
    }

    /// Admits what fits, then decodes one token a slot unless a completion has ended already.
    pub(super) fn advance(
        &mut self,
        model: &Decoder,
        stats: &mut EngineStats,
    ) -> Result<(), RolloutError> {
        self.admit(model, stats)?;
        if self.queue.done.is_empty() && !self.idle() {
            self.decode(model, stats)?;
        }
        Ok(())
    }
}
