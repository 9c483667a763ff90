//! What is asked for and what of it has room: prompts with their ranges of the cache, completions that wait, and which of
//! them give way when the cache is full.
//!
//! Completions are admitted in the order of the requests, and the youngest give way: they are drawn again from their
//! beginning when there is room, with the same random numbers, so that the room changes no result.

use std::collections::BTreeSet;
use std::rc::Rc;

use models::{EncodedImages, KV_PAGE, KvCache, KvRange, kv_pages};
use tch::Tensor;

use super::slots::{Age, Slot};
use crate::RolloutError;
use crate::engine::Request;

/// A request, and its prompt while it is in the cache.
pub(super) struct AskedRequest {
    /// The request.
    pub(super) request: Request,
    /// The prompt's pictures, encoded; until the last completion has ended.
    pub(super) view: Option<Rc<EncodedImages>>,
    /// The prompt, once it was given room.
    pub(super) prompt: Option<PromptRange>,
    /// Completions that have not ended.
    unfinished: usize,
}

/// A prompt in the cache.
pub(super) struct PromptRange {
    pub(super) range: KvRange,
    /// What its last token predicts, `[1, H]`, once it was run.
    pub(super) hidden: Option<Tensor>,
    /// Completions in slots that read it.
    readers: usize,
}

/// The requests of a decoding.
pub(super) struct AdmissionQueue {
    pub(super) asked: Vec<AskedRequest>,
    waiting: BTreeSet<Age>,
    room: Room,
    /// Whether completions gave way, and none has ended since: none is admitted then.
    full: bool,
    /// How many gave way.
    pub(super) put_back: u64,
}

impl AdmissionQueue {
    /// Nobody waits for a part of `room` yet.
    pub(super) fn new(room: Room) -> Self {
        Self {
            asked: Vec::new(),
            waiting: BTreeSet::new(),
            room,
            full: false,
            put_back: 0,
        }
    }

    /// The completions of `request` with the numbers `wanted` wait behind all others.
    pub(super) fn join(
        &mut self,
        request: Request,
        view: Option<Rc<EncodedImages>>,
        wanted: impl Iterator<Item = usize>,
    ) {
        let order = self.asked.len();
        let before = self.waiting.len();
        self.waiting.extend(wanted.map(|index| (order, index)));
        self.asked.push(AskedRequest {
            unfinished: self.waiting.len() - before,
            request,
            view,
            prompt: None,
        });
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the oldest completion that waits out, with a range of its own, its prompt in the cache; `None` where there
    /// is no room beside `active` completions, or none waits.
    pub(super) fn admit(&mut self, cache: &mut KvCache, active: usize) -> Option<(Age, KvRange)> {
        if self.full && active > 0 {
            return None;
        }
        let age = *self.waiting.first()?;
        // Each that is active may need a page before one ends, unless it was given all that it may need.
        let growing = if self.room.grows { active as i64 } else { 0 };
        let spare =
            |cache: &KvCache, pages: i64| active == 0 || cache.free_pages() >= pages + growing;
        let own = kv_pages(self.room.first_rows);
        let asked = &mut self.asked[age.0];
        if asked.prompt.is_none() {
            let rows = asked.request.ids.len() as i64;
            if !spare(cache, kv_pages(rows) + own) {
                return None;
            }
            asked.prompt = Some(PromptRange {
                range: cache.reserve(rows)?,
                hidden: None,
                readers: 0,
            });
        } else if !spare(cache, own) {
            return None;
        }
        let range = cache.reserve(self.room.first_rows);
        let prompt = asked.prompt.as_mut().expect("it was given room above");
        match range {
            Some(range) => {
                prompt.readers += 1;
                self.waiting.pop_first();
                Some((age, range))
            }
            None => {
                self.let_go(cache, age.0);
                None
            }
        }
    }

    /// A completion has ended: its range is free, and its prompt's if nobody needs it any more.
    pub(super) fn ended(&mut self, cache: &mut KvCache, slot: &mut Slot) {
        self.leave(cache, slot);
        self.full = false;
        let order = slot.age().0;
        let asked = &mut self.asked[order];
        asked.unfinished -= 1;
        if asked.unfinished == 0 {
            asked.view = None;
        }
        let waits = self.waiting.range((order, 0)..(order + 1, 0)).next();
        if waits.is_none() {
            self.let_go(cache, order);
        }
    }

    /// A completion gives way: it waits again.
    pub(super) fn gives_way(&mut self, cache: &mut KvCache, mut slot: Slot) {
        self.leave(cache, &mut slot);
        self.waiting.insert(slot.age());
        self.full = true;
        self.put_back += 1;
        self.let_go(cache, slot.age().0);
    }

    /// Frees prompts that no active completion reads; whether any was.
    pub(super) fn free_idle_prompts(&mut self, cache: &mut KvCache) -> bool {
        let before = cache.free_pages();
        for order in 0..self.asked.len() {
            self.let_go(cache, order);
        }
        cache.free_pages() > before
    }

    /// All ranges of prompts.
    pub(super) fn prompt_ranges(&mut self) -> impl Iterator<Item = &mut KvRange> {
        let prompts = self
            .asked
            .iter_mut()
            .filter_map(|asked| asked.prompt.as_mut());
        prompts.map(|prompt| &mut prompt.range)
    }

    fn leave(&mut self, cache: &mut KvCache, slot: &mut Slot) {
        if let Some(range) = slot.range.take() {
            cache.release(range);
        }
        if let Some(prompt) = &mut self.asked[slot.age().0].prompt {
            prompt.readers -= 1;
        }
    }

    /// Frees a prompt that no active completion reads.
    fn let_go(&mut self, cache: &mut KvCache, order: usize) {
        let prompt = &mut self.asked[order].prompt;
        if let Some(idle) = prompt.take_if(|prompt| prompt.readers == 0) {
            cache.release(idle.range);
        }
    }
}

/// How much of the cache a decoding gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Pages of the cache.
    pub(super) pages: i64,
    /// Rows that a completion is given at first.
    first_rows: i64,
    /// Whether it may need more than these.
    grows: bool,
}

impl Room {
    /// For `slots` completions of at most `longest` tokens at a time: all that they may need, or `tokens` (0: no bound).
    ///
    /// # Errors
    /// A bound that does not hold the longest prompt with its completion.
    pub(super) fn of(
        requests: &[Request],
        (slots, longest): (usize, usize),
        tokens: usize,
    ) -> Result<Self, RolloutError> {
        let prompts = requests
            .iter()
            .map(|request| kv_pages(request.ids.len() as i64));
        let mut prompts: Vec<i64> = prompts.collect();
        prompts.sort_unstable_by(|a, b| b.cmp(a));
        let own = kv_pages(longest as i64).max(1);
        // Whatever holds a prompt has a slot.
        let whole = prompts.iter().take(slots).sum::<i64>() + own * slots as i64;
        let bound = tokens as i64 / KV_PAGE;
        if tokens == 0 || bound >= whole {
            return Ok(Self {
                pages: whole,
                first_rows: longest as i64,
                grows: false,
            });
        }
        let alone = prompts.first().copied().unwrap_or(0) + own;
        if bound < alone {
            return Err(RolloutError::Input(format!(
                "cache_tokens: must hold the longest prompt with its completion, {} tokens in pages of {KV_PAGE}, got {tokens}",
                alone * KV_PAGE
            )));
        }
        Ok(Self {
            pages: bound,
            first_rows: KV_PAGE.min(longest as i64),
            grows: true,
        })
    }

    /// For requests like `requests` that come and go, `slots` completions at a time, whatever their order.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub(super) fn open(
        (requests, wanted): (&[Request], usize),
        (slots, longest): (usize, usize),
        tokens: usize,
    ) -> Result<Self, RolloutError> {
        let room = Self::of(requests, (slots, longest), tokens)?;
        if room.grows {
            return Ok(room);
        }
        // As many prompts as fill the slots, if those to come have as many completions each.
        let most = requests
            .iter()
            .map(|request| kv_pages(request.ids.len() as i64))
            .max();
        let prompts = (slots * requests.len()).div_ceil(wanted.max(1)) as i64;
        let own = kv_pages(longest as i64).max(1);
        let pages = room
            .pages
            .max(own * slots as i64 + most.unwrap_or(1) * prompts);
        let bound = tokens as i64 / KV_PAGE;
        Ok(Self {
            pages: if tokens == 0 { pages } else { pages.min(bound) },
            ..room
        })
    }

    /// Whether a prompt of `rows` tokens has room with a completion of `longest` when it is alone.
    pub(super) fn holds(&self, rows: usize, longest: usize) -> bool {
        kv_pages(rows as i64) + kv_pages(longest as i64).max(1) <= self.pages
    }
}
