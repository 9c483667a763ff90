//! Keys and values of sequences that are being decoded.
//!
//! A slot holds one sequence. A group's prompt is run once ([`KvCache::prefill`]) and its rows are
//! copied to the slots of its completions as these are admitted. The cache is an argument of the
//! model, never a part of it.

use tch::Tensor;

use crate::Decoder;
use crate::input::LmInput;

/// Keys and values `[slots, Hkv, capacity, D]` for every block.
pub struct KvCache {
    pub(crate) keys: Vec<Tensor>,
    pub(crate) values: Vec<Tensor>,
    slots: i64,
    capacity: i64,
}

/// One prompt's keys and values, and what it predicts.
pub struct Prefix {
    /// `[1, Hkv, P, D]` per block.
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    /// The normalised hidden row `[1, H]` of the last token.
    pub hidden: Tensor,
}

impl Prefix {
    /// Number of tokens.
    pub fn len(&self) -> i64 {
        self.keys.first().map_or(0, |keys| keys.size()[2])
    }

    /// True for a network without blocks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl KvCache {
    /// Room for `slots` sequences of up to `capacity` tokens.
    pub fn new(model: &Decoder, slots: i64, capacity: i64) -> Self {
        let shape = [
            slots,
            model.config.num_kv_heads,
            capacity,
            model.config.head_dim,
        ];
        let options = (model.kind(), model.device());
        let make = || {
            (0..model.num_blocks())
                .map(|_| Tensor::zeros(shape, options))
                .collect()
        };
        Self {
            keys: make(),
            values: make(),
            slots,
            capacity,
        }
    }

    /// Number of sequences it holds.
    pub fn slots(&self) -> i64 {
        self.slots
    }

    /// Longest sequence it holds.
    pub fn capacity(&self) -> i64 {
        self.capacity
    }

    /// Runs the prompts of `input`, one segment each, once.
    pub fn prefill(model: &Decoder, input: &LmInput) -> Vec<Prefix> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let hidden = model.hidden_keeping(input, &mut |_, k, v| {
            for (list, rows) in [(&mut keys, k), (&mut values, v)] {
                list.push(rows.transpose(0, 1).unsqueeze(0));
            }
        });
        let cut = |list: &[Tensor], start: i64, len: i64| -> Vec<Tensor> {
            list.iter()
                .map(|rows| rows.narrow(2, start, len).contiguous())
                .collect()
        };
        input
            .segments
            .iter()
            .map(|segment| {
                let (start, len) = (segment.rows.start, segment.rows.len);
                Prefix {
                    keys: cut(&keys, start, len),
                    values: cut(&values, start, len),
                    hidden: hidden.narrow(0, start + len - 1, 1).contiguous(),
                }
            })
            .collect()
    }

    /// Copies a prompt's rows to the front of `slot`.
    pub fn admit(&mut self, prefix: &Prefix, slot: i64) {
        for (cache, rows) in self
            .keys
            .iter()
            .zip(&prefix.keys)
            .chain(self.values.iter().zip(&prefix.values))
        {
            cache
                .narrow(0, slot, 1)
                .narrow(2, 0, prefix.len())
                .copy_(rows);
        }
    }
}
