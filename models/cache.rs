//! Keys and values of sequences that are being decoded.
//!
//! A group's prompt is run once ([`KvCache::prefill`]) and its rows stay in one page, which all
//! completions of the group read; a slot holds what one completion has generated. The cache is an
//! argument of the model, never a part of it.

use tch::Tensor;

use crate::Decoder;
use crate::input::LmInput;

/// Keys and values of prompts and of completions.
pub struct KvCache {
    pub(crate) prompt_kv: KvPages,
    pub(crate) completion_kv: KvPages,
    capacity: KvCapacity,
}

/// How much a [`KvCache`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCapacity {
    /// Prompts at a time.
    pub prompts: i64,
    /// Tokens of the longest prompt.
    pub prompt_tokens: i64,
    /// Completions at a time.
    pub slots: i64,
    /// Tokens of the longest completion.
    pub new_tokens: i64,
}

impl KvCapacity {
    /// Whether this much holds `other`.
    pub fn holds(&self, other: &Self) -> bool {
        self.prompts >= other.prompts
            && self.prompt_tokens >= other.prompt_tokens
            && self.slots >= other.slots
            && self.new_tokens >= other.new_tokens
    }
}

/// Keys and values `[pages, Hkv, capacity, D]` for every block.
pub(crate) struct KvPages {
    pub(crate) keys: Vec<Tensor>,
    pub(crate) values: Vec<Tensor>,
}

impl KvPages {
    fn new(model: &Decoder, count: i64, capacity: i64) -> Self {
        let config = &model.config;
        let shape = [count, config.num_kv_heads, capacity, config.head_dim];
        let options = (model.kind(), model.device());
        let make = || {
            (0..model.num_blocks())
                .map(|_| Tensor::zeros(shape, options))
                .collect()
        };
        Self {
            keys: make(),
            values: make(),
        }
    }
}

/// The rows of one decoding step.
pub struct DecodeRows {
    /// Token fed to each row, `[n]` int64.
    pub ids: Tensor,
    /// The page of each row's prompt, `[n]` int64.
    pub pages: Tensor,
    /// The length of that prompt, `[n]` int64.
    pub prompts: Tensor,
    /// The slot of each row, `[n]` int64, all different.
    pub slots: Tensor,
    /// Place of the token in the slot, `[n]` int64: how many were generated and fed before it.
    pub positions: Tensor,
    /// Its rotary position, `[n]` int64.
    pub position_ids: Tensor,
    /// The longest prompt.
    pub longest_prompt: i64,
    /// The largest of the positions in slots.
    pub largest_position: i64,
}

impl KvCache {
    /// An empty cache.
    pub fn new(model: &Decoder, capacity: KvCapacity) -> Self {
        Self {
            prompt_kv: KvPages::new(model, capacity.prompts, capacity.prompt_tokens),
            completion_kv: KvPages::new(model, capacity.slots, capacity.new_tokens),
            capacity,
        }
    }

    /// How much it holds.
    pub fn capacity(&self) -> KvCapacity {
        self.capacity
    }

    /// Runs the prompts of `input`, one segment each, and keeps the rows of segment `i` in page
    /// `pages[i]`; returns for each the normalised hidden row `[1, H]` of its last token.
    pub fn prefill(&mut self, model: &Decoder, input: &LmInput, pages: &[i64]) -> Vec<Tensor> {
        let prompts = &self.prompt_kv;
        let hidden = model.hidden_keeping(input, &mut |block, keys, values| {
            let kept = [
                (&prompts.keys[block], keys),
                (&prompts.values[block], values),
            ];
            for (cache, rows) in kept {
                // [T, Hkv, D] to [Hkv, T, D].
                let rows = rows.transpose(0, 1);
                for (segment, page) in input.segments.iter().zip(pages) {
                    let (start, len) = (segment.rows.start, segment.rows.len);
                    cache
                        .get(*page)
                        .narrow(1, 0, len)
                        .copy_(&rows.narrow(1, start, len));
                }
            }
        });
        let last = |segment: &crate::input::Segment| {
            let at = segment.rows.start + segment.rows.len - 1;
            hidden.narrow(0, at, 1).contiguous()
        };
        input.segments.iter().map(last).collect()
    }
}
