//! Keys and values of sequences that are being decoded, in ranges of pages.
//!
//! A prompt or a completion has one range of neighbouring rows, in whole pages, of every block's one tensor. A group's
//! prompt is run once ([`KvCache::prefill`]) and all its completions read that range; a completion's range grows with
//! what it writes: in place where the next page is free, else into a range half as large again, so that at most two bytes
//! are copied for each that is written. On a GPU attention reads the ranges in place. The cache is an argument of the model, never a part of it.

use tch::Tensor;

use crate::Decoder;
use crate::input::LmInput;
use crate::kv_room::KvRoom;

/// Rows of a page.
pub const KV_PAGE: i64 = 16;

/// Keys and values of prompts and of completions.
pub struct KvCache {
    /// Keys and then values, `[2 Hkv, C, D]` for every block.
    pub(crate) both: Vec<Tensor>,
    /// The keys of these, `[Hkv, C, D]`.
    pub(crate) keys: Vec<Tensor>,
    /// The values of these, `[Hkv, C, D]`.
    pub(crate) values: Vec<Tensor>,
    /// Whether attention reads it where it lies; else a GPU's keys and values are gathered.
    pub(crate) in_place: bool,
    room: KvRoom,
    moved: i64,
}

/// The rows of one prompt or completion. It must be given back with [`KvCache::release`].
#[derive(Debug)]
pub struct KvRange {
    page: i64,
    pages: i64,
}

impl KvRange {
    /// Its first row in the cache.
    pub fn start(&self) -> i64 {
        self.page * KV_PAGE
    }

    /// How many rows it has.
    pub fn rows(&self) -> i64 {
        self.pages * KV_PAGE
    }
}

/// How many pages hold `rows`.
pub fn kv_pages(rows: i64) -> i64 {
    (rows + KV_PAGE - 1) / KV_PAGE
}

/// The rows of one decoding step.
pub struct DecodeRows {
    /// Token fed to each row, `[n]` int64.
    pub ids: Tensor,
    /// Where the range of each row's prompt starts, `[n]` int64.
    pub prompt_starts: Tensor,
    /// The length of that prompt, `[n]` int64.
    pub prompt_lengths: Tensor,
    /// Where each row's own range starts, `[n]` int64, all different.
    pub starts: Tensor,
    /// Place of the token in its range, `[n]` int64: how many were generated and fed before it.
    pub positions: Tensor,
    /// Its rotary position, `[n]` int64.
    pub position_ids: Tensor,
    /// The longest prompt.
    pub longest_prompt: i64,
    /// The largest of the positions in ranges.
    pub largest_position: i64,
    /// No prompt and no completion is ever longer: the same number for all steps of a cache.
    pub most_rows: i64,
}

impl KvCache {
    /// An empty cache of so many pages.
    pub fn new(model: &Decoder, pages: i64) -> Self {
        let config = &model.config;
        let heads = config.num_kv_heads;
        let shape = [2 * heads, pages * KV_PAGE, config.head_dim];
        let (kind, device) = (model.kind(), model.device());
        // What was not written is not read: a machine gives it memory when it is touched.
        let both: Vec<Tensor> = (0..model.num_blocks())
            .map(|_| Tensor::empty(shape, (kind, device)))
            .collect();
        let half = |first| both.iter().map(move |both| both.narrow(0, first, heads));
        Self {
            keys: half(0).collect(),
            values: half(heads).collect(),
            in_place: torch_ext::flash_available(device, kind, config.head_dim),
            both,
            room: KvRoom::new(pages),
            moved: 0,
        }
    }

    /// A range of at least `rows`, if one is free.
    pub fn reserve(&mut self, rows: i64) -> Option<KvRange> {
        let pages = kv_pages(rows).max(1);
        let page = self.room.take(pages)?;
        Some(KvRange { page, pages })
    }

    /// Takes a range back.
    pub fn release(&mut self, range: KvRange) {
        self.room.give(range.page, range.pages);
    }

    /// Room for at least one row more in a range of which all rows are written; whether there was any.
    pub fn extend(&mut self, range: &mut KvRange) -> bool {
        if self.room.take_at(range.page + range.pages, 1) {
            range.pages += 1;
            return true;
        }
        let larger = [(3 * range.pages + 1) / 2, range.pages + 1];
        for pages in larger {
            if let Some(page) = self.room.take(pages) {
                self.copy(range.page, page, range.pages);
                self.moved += range.rows();
                self.room.give(range.page, range.pages);
                *range = KvRange { page, pages };
                return true;
            }
        }
        false
    }

    /// Moves `ranges` together behind the page that starts at row `first` (the beginning without one): what is free is one
    /// range afterwards, behind the last of them. They must be all that there are, but for that page.
    pub fn compact(&mut self, mut ranges: Vec<&mut KvRange>, first: Option<i64>) {
        ranges.sort_by_key(|range| range.page);
        let mut next = first.map_or(0, |row| row / KV_PAGE + 1);
        for range in ranges {
            if range.page != next {
                self.copy(range.page, next, range.pages);
                self.moved += range.rows();
                self.room.give(range.page, range.pages);
                // It lies behind `next`, where all is free now as far as its end.
                let taken = self.room.take_at(next, range.pages);
                debug_assert!(taken, "all ranges were given");
                range.page = next;
            }
            next += range.pages;
        }
    }

    /// Copies `pages` of every block from one page on to another; they may overlap.
    fn copy(&self, from: i64, to: i64, pages: i64) {
        let (from, to, rows) = (from * KV_PAGE, to * KV_PAGE, pages * KV_PAGE);
        let overlap = (from - to).abs() < rows;
        for cache in &self.both {
            let source = cache.narrow(1, from, rows);
            let source = if overlap { source.copy() } else { source };
            cache.narrow(1, to, rows).copy_(&source);
        }
    }

    /// Whether a step reads it where it lies and asks the host for nothing, so that a graph may hold the step.
    pub fn is_read_in_place(&self) -> bool {
        self.in_place
    }

    /// Pages that are free.
    pub fn free_pages(&self) -> i64 {
        self.room.left()
    }

    /// The most pages that were taken at a time.
    pub fn peak_pages(&self) -> i64 {
        self.room.peak()
    }

    /// Rows that were copied since this was asked last, because a range grew or all moved together.
    pub fn take_moved_rows(&mut self) -> i64 {
        std::mem::take(&mut self.moved)
    }

    /// Runs the prompts of `input`, one segment each, and keeps the rows of segment `i` in `ranges[i]`; returns for each
    /// of these the normalised hidden row `[1, H]` of its last token. Further segments are run and forgotten.
    pub fn prefill(
        &mut self,
        model: &Decoder,
        input: &LmInput,
        ranges: &[&KvRange],
    ) -> Vec<Tensor> {
        let hidden = model.hidden_keeping(input, &mut |block, keys, values| {
            let kept = [(&self.keys[block], keys), (&self.values[block], values)];
            for (cache, rows) in kept {
                // [T, Hkv, D] to [Hkv, T, D].
                let rows = rows.transpose(0, 1);
                for (segment, range) in input.segments.iter().zip(ranges) {
                    let (start, len) = (segment.rows.start, segment.rows.len);
                    cache
                        .narrow(1, range.start(), len)
                        .copy_(&rows.narrow(1, start, len));
                }
            }
        });
        let last = |segment: &crate::input::Segment| {
            let at = segment.rows.start + segment.rows.len - 1;
            hidden.narrow(0, at, 1).contiguous()
        };
        let kept = input.segments.iter().zip(ranges);
        kept.map(|(segment, _)| last(segment)).collect()
    }
}
