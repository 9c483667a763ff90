//! Requests being decoded: prompts are prefilled once a group, completions take slots as they
//! become free, every slot draws one token at a time.
//!
//! Requests are admitted in order, so the contents of the slots of a submission depend on it and the cache's bound alone.
//! An open decoding takes further requests while it goes on; it computes rows so that their company changes no bit.
//! Left out on purpose: prefix trees over different prompts.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use models::{
    AdapterMode, Decoder, EncodedImages, KvCache, LmInput, LmInputBuilder, Tokenizer,
    VisionFeatures,
};
use tch::{Kind, Tensor};

use super::admission::{AdmissionQueue, AskedRequest, Room};
use super::device_rows::{DeviceRows, RowBounds, StepParts};
use super::sampler::{SampledTokens, Sampler};
use super::slots::Slot;
use crate::RolloutError;
use crate::engine::stop::Stops;
use crate::engine::{EngineStats, Finished, Request, Sampling, Submission};

/// Prompt rows that are prefilled at once.
const PREFILL_ROWS: usize = 16_384;

/// Rows of every product where the cache is bounded: from here on MKL computes a row alike whatever stands beside it, so
/// that a completion drawn again among others is the same bit for bit.
const ALIKE: usize = 16;

/// Prompts that join an open decoding may be as long as those that opened it, rounded up to a multiple of this.
const OPEN_ROWS: usize = 256;

/// How much is decoded at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecodeBounds {
    /// Sequences; 0: all.
    pub(super) slots: usize,
    /// Tokens of the cache; 0: as many as may be needed.
    pub(super) cache_tokens: usize,
}

/// Sequences that are sampled alike, and the cache that holds them.
pub(super) struct Decoding {
    sampler: Sampler,
    stops: Stops,
    seed: u64,
    cache: KvCache,
    /// A page of the cache that rows without a sequence write to, where there are any.
    spare: Option<i64>,
    slots: Vec<Option<Slot>>,
    /// The most rows of a prompt or a completion.
    most_rows: usize,
    room: Room,
    /// What a GPU decodes from.
    device_rows: Option<DeviceRows>,
    admission: AdmissionQueue,
    done: VecDeque<Finished>,
}

impl Decoding {
    /// Room for `submission`, whose pictures were encoded as `views`, one each request that has any.
    ///
    /// # Errors
    /// Stop strings without a tokenizer, sampling values out of bounds, a cache that is too small.
    pub(super) fn new(
        model: &Decoder,
        tokenizer: Option<Arc<Tokenizer>>,
        submission: Submission,
        views: Vec<Rc<EncodedImages>>,
        bounds: DecodeBounds,
    ) -> Result<Self, RolloutError> {
        let Submission {
            requests,
            sampling,
            seed,
        } = submission;
        let asked: usize = requests.iter().map(|request| request.samples).sum();
        let slots = match bounds.slots {
            0 => asked,
            limit => asked.min(limit),
        };
        let longest = sampling.max_new_tokens;
        let room = Room::of(&requests, (slots, longest), bounds.cache_tokens)?;
        let prompts = requests.iter().map(|request| request.ids.len());
        let rows = RowBounds {
            slots,
            longest,
            most_rows: prompts.max().unwrap_or(0).max(longest),
        };
        let alike = bounds.cache_tokens > 0;
        let mut decoding =
            Self::with_room(model, tokenizer, (sampling, seed), (room, rows, alike))?;
        let wanted = requests.into_iter().map(|request| {
            let all = (0..request.samples).collect();
            (request, all)
        });
        decoding.join(wanted.collect(), views);
        Ok(decoding)
    }

    /// Room for requests like `requests`, of whose completions `wanted` are asked for, and for others that [`Self::join`]
    /// later: `bounds.slots` completions at a time, > 0.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub(super) fn open(
        model: &Decoder,
        tokenizer: Option<Arc<Tokenizer>>,
        (sampling, seed): (Sampling, u64),
        (requests, wanted): (&[Request], usize),
        bounds: DecodeBounds,
    ) -> Result<Self, RolloutError> {
        let longest = sampling.max_new_tokens;
        let room = Room::open(
            (requests, wanted),
            (bounds.slots, longest),
            bounds.cache_tokens,
        )?;
        let prompts = requests.iter().map(|request| request.ids.len());
        let most = prompts.max().unwrap_or(0).max(longest);
        let rows = RowBounds {
            slots: bounds.slots,
            longest,
            most_rows: most.next_multiple_of(OPEN_ROWS),
        };
        Self::with_room(model, tokenizer, (sampling, seed), (room, rows, true))
    }

    fn with_room(
        model: &Decoder,
        tokenizer: Option<Arc<Tokenizer>>,
        (sampling, seed): (Sampling, u64),
        (room, rows, alike): (Room, RowBounds, bool),
    ) -> Result<Self, RolloutError> {
        // Image tokens, and rows of the head that are no tokens at all.
        let mut suppressed = model.suppress_tokens().to_vec();
        if let Some(tokenizer) = &tokenizer {
            suppressed.extend(tokenizer.unused_ids(model.config.vocab_size));
        }
        let stops = Stops::new(tokenizer, &sampling)?;
        let on_gpu = model.device().is_cuda();
        let with_spare = on_gpu || alike;
        let mut cache = KvCache::new(model, room.pages + i64::from(with_spare));
        let spare = with_spare.then(|| cache.reserve(1)).flatten();
        let spare = spare.map(|range| range.start());
        let (slots, most_rows) = (rows.slots, rows.most_rows);
        let device_rows = spare.filter(|_| on_gpu);
        Ok(Self {
            sampler: Sampler::suppressing(sampling, &suppressed, model.device()),
            stops,
            seed,
            cache,
            spare,
            slots: (0..slots).map(|_| None).collect(),
            most_rows,
            room,
            device_rows: device_rows.map(|spare| DeviceRows::new(rows, spare, model.device())),
            admission: AdmissionQueue::new(room),
            done: VecDeque::new(),
        })
    }

    /// Whether a prompt of `rows` tokens may join this decoding.
    pub(super) fn has_room_for(&self, rows: usize) -> bool {
        let longest = self.sampler.sampling.max_new_tokens;
        rows <= self.most_rows && self.room.holds(rows, longest)
    }

    /// The wanted completions of `requests` wait behind all others; `views` has the pictures of each request that shows
    /// any, in order.
    pub(super) fn join(
        &mut self,
        requests: Vec<(Request, Vec<usize>)>,
        views: Vec<Rc<EncodedImages>>,
    ) {
        let mut views = views.into_iter();
        for (request, wanted) in requests {
            let view = request.images.as_ref().and_then(|_| views.next());
            self.admission.join(request, view, wanted.into_iter());
        }
    }

    /// A completion that has ended and was not handed out yet.
    pub(super) fn pop(&mut self) -> Option<Finished> {
        self.done.pop_front()
    }

    /// Whether nothing is left to decode or to hand out.
    pub(super) fn is_done(&self) -> bool {
        self.done.is_empty() && self.admission.is_empty() && self.active() == 0
    }

    fn active(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Fills free slots from those that wait; freshly admitted sequences draw their first token.
    fn admit(&mut self, model: &Decoder, stats: &mut EngineStats) -> Result<(), RolloutError> {
        let mut active = self.active();
        let mut rows = Vec::new();
        for index in 0..self.slots.len() {
            if self.slots[index].is_some() {
                continue;
            }
            let mut admitted = self.admission.admit(&mut self.cache, active);
            if admitted.is_none() && active == 0 {
                self.admission.free_idle_prompts(&mut self.cache);
                admitted = self.admission.admit(&mut self.cache, active);
            }
            let Some((age, range)) = admitted else { break };
            let asked = &self.admission.asked[age.0];
            let next = match &asked.view {
                Some(view) => view.images.positions.next,
                None => asked.request.ids.len() as i64,
            };
            let slot = Slot::new((&asked.request, age), (range, next), self.seed);
            if let Some(rows) = &mut self.device_rows {
                rows.come(index, &slot);
            }
            self.slots[index] = Some(slot);
            rows.push(index);
            active += 1;
        }
        if rows.is_empty() {
            return match active == 0 && !self.admission.is_empty() {
                true => Err(RolloutError::Torch("the cache holds no completion".into())),
                false => Ok(()),
            };
        }
        self.prefill(model, stats)?;
        let hidden: Vec<Tensor> = rows
            .iter()
            .filter_map(|&index| {
                let slot = self.slots[index].as_ref()?;
                let prompt = self.admission.asked[slot.age().0].prompt.as_ref()?;
                Some(prompt.hidden.as_ref()?.shallow_clone())
            })
            .collect();
        self.sample_tokens(model, &rows, &Tensor::cat(&hidden, 0), stats)
    }

    /// Runs the prompts that were given room and are not in the cache yet.
    fn prefill(&mut self, model: &Decoder, stats: &mut EngineStats) -> Result<(), RolloutError> {
        let mut batch: Vec<usize> = Vec::new();
        let mut views: Vec<Rc<EncodedImages>> = Vec::new();
        let mut input = LmInput::builder();
        for order in 0..self.admission.asked.len() {
            let asked = &self.admission.asked[order];
            let new = |prompt: &super::admission::PromptRange| prompt.hidden.is_none();
            if !asked.prompt.as_ref().is_some_and(new) {
                continue;
            }
            if !batch.is_empty() && input.len() + asked.request.ids.len() > PREFILL_ROWS {
                self.run_prefill(model, &batch, (input, &views), stats)?;
                (batch, views, input) = Default::default();
            }
            let asked = &self.admission.asked[order];
            match &asked.view {
                None => input.push(&asked.request.ids, None),
                Some(view) => input.push_with_images(&asked.request.ids, &view.images.positions),
            };
            views.extend(asked.view.clone());
            batch.push(order);
        }
        match batch.is_empty() {
            true => Ok(()),
            false => self.run_prefill(model, &batch, (input, &views), stats),
        }
    }

    /// Runs the prompts of the requests `batch`, packed as `input`.
    fn run_prefill(
        &mut self,
        model: &Decoder,
        batch: &[usize],
        (mut input, views): (LmInputBuilder, &[Rc<EncodedImages>]),
        stats: &mut EngineStats,
    ) -> Result<(), RolloutError> {
        let _span = tracing::trace_span!("prefill", prompts = batch.len()).entered();
        stats.prefills += batch.len() as u64;
        if self.spare.is_some() && input.len() < ALIKE {
            input.push(&[0; ALIKE], None);
        }
        let features = model.features(views, VisionFeatures::Cached, AdapterMode::On)?;
        let input = input.build(model.device()).with_features(features);
        let asked = &self.admission.asked;
        let ranges = batch
            .iter()
            .filter_map(|&order| Some(&asked[order].prompt.as_ref()?.range));
        let hidden = self
            .cache
            .prefill(model, &input, &ranges.collect::<Vec<_>>());
        for (&order, hidden) in batch.iter().zip(hidden) {
            if let Some(prompt) = &mut self.admission.asked[order].prompt {
                prompt.hidden = Some(hidden);
            }
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
        let count = rows.len() as i64;
        let missing = ALIKE as i64 - hidden.size()[0];
        let logits = match self.spare.is_some() && missing > 0 {
            true => model.logits(&hidden.constant_pad_nd([0, 0, 0, missing])),
            false => model.logits(hidden),
        };
        let logits = logits.narrow(0, 0, count).to_kind(Kind::Float);
        let uniforms: Vec<f64> = rows
            .iter()
            .filter_map(|&index| self.slots[index].as_ref().map(Slot::uniform))
            .collect();
        let sampled = self.sampler.sample_tokens(&logits, &uniforms)?;
        self.take(rows, &sampled, stats);
        Ok(())
    }

    /// Gives each of `rows` (slot numbers) its token; whoever has ended by it leaves its slot.
    fn take(&mut self, rows: &[usize], sampled: &SampledTokens, stats: &mut EngineStats) {
        stats.tokens += rows.len() as u64;
        for (row, &index) in rows.iter().enumerate() {
            let Some(slot) = &mut self.slots[index] else {
                continue;
            };
            slot.push(sampled, row, &self.stops);
            if let Some(finish) = slot.finish(&self.stops, self.sampler.sampling.max_new_tokens) {
                let mut slot = self.slots[index].take().expect("it was there a line ago");
                self.admission.ended(&mut self.cache, &mut slot);
                self.done.push_back(slot.finished(finish, &self.stops));
                self.rows_changed();
            }
        }
    }

    /// What a GPU decodes from must be written anew.
    fn rows_changed(&mut self) {
        if let Some(rows) = &mut self.device_rows {
            rows.change();
        }
    }

    /// Gives every sequence a place for its next token, the oldest first; where there is none left, the youngest give way.
    fn make_room(&mut self) -> Result<(), RolloutError> {
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        order.retain(|&index| self.slots[index].is_some());
        order.sort_by_key(|&index| self.slots[index].as_ref().map(Slot::age));
        let mut at = 0;
        while let Some(&index) = order.get(at) {
            let Some(slot) = self.slots[index].as_mut().filter(|slot| slot.is_full()) else {
                at += 1;
                continue;
            };
            let before = slot.start();
            let range = slot.range.as_mut();
            if range.is_some_and(|range| self.cache.extend(range)) {
                if slot.start() != before {
                    self.rows_changed();
                }
                at += 1;
                continue;
            }
            if self.admission.free_idle_prompts(&mut self.cache) {
                continue;
            }
            if order.len() > 1 {
                let youngest = order.pop().and_then(|index| self.slots[index].take());
                if let Some(youngest) = youngest {
                    self.admission.gives_way(&mut self.cache, youngest);
                    self.rows_changed();
                }
                continue;
            }
            // It is alone, and what is free lies in pieces.
            let own = self.slots.iter_mut().flatten();
            let own = own.filter_map(|slot| slot.range.as_mut());
            let prompts = self.admission.prompt_ranges();
            self.cache.compact(prompts.chain(own).collect(), self.spare);
            if let Some(rows) = &mut self.device_rows {
                rows.change();
            }
            let slot = self.slots[index].as_mut();
            let range = slot.and_then(|slot| slot.range.as_mut());
            if !range.is_some_and(|range| self.cache.extend(range)) {
                return Err(RolloutError::Torch("the cache is too small".into()));
            }
        }
        Ok(())
    }

    fn decode(&mut self, model: &Decoder, stats: &mut EngineStats) -> Result<(), RolloutError> {
        self.make_room()?;
        if self.device_rows.is_some() {
            return self.decode_on_gpu(model, stats);
        }
        let rows: Vec<usize> = (0..self.slots.len())
            .filter(|&index| self.slots[index].is_some())
            .collect();
        let busy: Vec<&Slot> = self.slots.iter().flatten().collect();
        let prompt_start = |slot: &Slot| prompt_start(&self.admission.asked, slot);
        // Rows without a sequence: each writes a place of its own, and reads that.
        let idle = match self.spare {
            Some(start) => (start..).take(ALIKE.saturating_sub(busy.len())).collect(),
            None => Vec::new(),
        };
        let device = model.device();
        let each = |number: &dyn Fn(&Slot) -> i64, without: &dyn Fn(i64) -> i64| {
            let numbers = busy.iter().map(|slot| number(slot));
            let numbers: Vec<i64> = numbers.chain(idle.iter().map(|at| without(*at))).collect();
            Tensor::from_slice(&numbers).to_device(device)
        };
        let most = |number: fn(&Slot) -> i64| busy.iter().map(|slot| number(slot)).max();
        let none = |_: i64| 0;
        let step = models::DecodeRows {
            ids: each(&Slot::last_token, &none),
            prompt_starts: each(&prompt_start, &none),
            prompt_lengths: each(&Slot::prompt_len, &none),
            starts: each(&Slot::start, &|at| at),
            positions: each(&Slot::position, &none),
            position_ids: each(&Slot::turn, &none),
            longest_prompt: most(Slot::prompt_len).unwrap_or(0),
            largest_position: most(Slot::position).unwrap_or(0),
            most_rows: 0,
        };
        let _span = tracing::trace_span!("decode", sequences = rows.len()).entered();
        let hidden = self.cache.decode(model, &step)?;
        self.sample_tokens(model, &rows, &hidden, stats)
    }

    /// One step of the rows that a GPU holds.
    fn decode_on_gpu(
        &mut self,
        model: &Decoder,
        stats: &mut EngineStats,
    ) -> Result<(), RolloutError> {
        let _span = tracing::trace_span!("decode", sequences = self.active()).entered();
        let Some(device_rows) = &mut self.device_rows else {
            return Ok(());
        };
        let asked = &self.admission.asked;
        let (rows, sampled) = device_rows.step(&mut StepParts {
            model,
            cache: &mut self.cache,
            sampler: &self.sampler,
            slots: &self.slots,
            prompt_start: &|slot| prompt_start(asked, slot),
        })?;
        stats.graph_nodes = stats.graph_nodes.max(device_rows.graph_nodes());
        self.take(&rows, &sampled, stats);
        Ok(())
    }

    /// Admits what fits, then decodes one token a slot unless a completion has ended already.
    pub(super) fn advance(
        &mut self,
        model: &Decoder,
        stats: &mut EngineStats,
    ) -> Result<(), RolloutError> {
        self.admit(model, stats)?;
        if self.done.is_empty() && self.active() > 0 {
            self.decode(model, stats)?;
        }
        stats.put_back += std::mem::take(&mut self.admission.put_back);
        stats.peak_pages = stats.peak_pages.max(self.cache.peak_pages() as u64);
        stats.moved_rows += self.cache.take_moved_rows() as u64;
        Ok(())
    }
}

/// Where the prompt of a slot's completion starts in the cache.
fn prompt_start(asked: &[AskedRequest], slot: &Slot) -> i64 {
    let prompt = asked[slot.age().0].prompt.as_ref();
    prompt.map_or(0, |prompt| prompt.range.start())
}
