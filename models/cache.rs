//! Keys and values of sequences that are being decoded, and one decoding step over them.
//!
//! A slot holds one sequence. A group's prompt is prefilled once and its rows are copied to the
//! slots of its completions. The cache is an argument of the model, never a part of it.

use tch::{Device, IndexOp, Kind, Tensor};

use crate::decoder::{Block, Decoder};
use crate::input::LmInput;
use crate::layers::{reduce_kind, rms_norm, rotate};

/// Keys and values `[slots, Hkv, capacity, D]` for every block.
pub struct KvCache {
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    slots: i64,
    capacity: i64,
}

/// The rows of one decoding step.
pub struct DecodeRows {
    /// Token fed to each row, `[n]` int64.
    pub ids: Tensor,
    /// The slot of each row, `[n]` int64, all different.
    pub slots: Tensor,
    /// Position of the token, `[n]` int64: the number of rows the slot holds before this step.
    pub positions: Tensor,
    /// The largest position.
    pub longest: i64,
}

impl KvCache {
    /// Room for `slots` sequences of up to `capacity` tokens.
    pub fn new(model: &Decoder, slots: i64, capacity: i64) -> Self {
        let shape = [slots, model.config.num_kv_heads, capacity, model.config.head_dim];
        let options = (model.kind(), model.device());
        let make = || (0..model.num_blocks()).map(|_| Tensor::zeros(shape, options)).collect();
        Self { keys: make(), values: make(), slots, capacity }
    }

    /// Number of sequences it holds.
    pub fn slots(&self) -> i64 {
        self.slots
    }

    /// Longest sequence it holds.
    pub fn capacity(&self) -> i64 {
        self.capacity
    }

    /// Runs the prompts of `input` (one segment each) once, copies each one's keys and values to
    /// its `slots`, and returns the hidden rows `[prompts, H]` of their last tokens.
    pub fn prefill(&mut self, model: &Decoder, input: &LmInput, slots: &[Vec<i64>]) -> Tensor {
        let device = model.device();
        let targets: Vec<Tensor> = slots.iter().map(|list| Tensor::from_slice(list).to_device(device)).collect();
        let (keys, values) = (&mut self.keys, &mut self.values);
        let hidden = model.hidden_keeping(input, &mut |block, k, v| {
            for (segment, targets) in input.segments.iter().zip(&targets) {
                let rows = segment.rows;
                for (cache, new) in [(&mut keys[block], k), (&mut values[block], v)] {
                    let new = new.narrow(0, rows.start, rows.len).transpose(0, 1).unsqueeze(0);
                    let new = new.expand([targets.size()[0], -1, -1, -1], false);
                    let _ = cache.narrow(2, 0, rows.len).index_copy_(0, targets, &new.contiguous());
                }
            }
        });
        let last: Vec<i64> = input.segments.iter().map(|segment| segment.rows.start + segment.rows.len - 1).collect();
        hidden.index_select(0, &Tensor::from_slice(&last).to_device(device))
    }

    /// Feeds one token to each row; returns the hidden rows `[n, H]` that predict the next.
    pub fn decode(&mut self, model: &Decoder, rows: &DecodeRows) -> Tensor {
        if model.device() == Device::Cpu && model.kind() == Kind::Float {
            return self.decode_fused(model, rows);
        }
        let tables = model.tables(&rows.positions);
        let mut x = model.embed(&rows.ids);
        for index in 0..model.num_blocks() {
            x = self.decode_block(model, index, &x, &tables, rows);
        }
        model.finish(&x)
    }

    fn decode_block(&mut self, model: &Decoder, index: usize, x: &Tensor, tables: &(Tensor, Tensor), rows: &DecodeRows) -> Tensor {
        let block: &Block = &model.blocks[index];
        let eps = model.config.rms_norm_eps;
        let (q, k, v) = model.project(&block.attention, &rms_norm(x, &block.input_norm, eps));
        let (q, k) = (rotate(&q, tables), rotate(&k, tables));
        for (cache, new) in [(&mut self.keys[index], &k), (&mut self.values[index], &v)] {
            let at = [Some(&rows.slots), None, Some(&rows.positions)];
            let _ = cache.index_put_(&at, new, false);
        }
        let mixed = attend(&q, &self.keys[index], &self.values[index], rows);
        let x = x + mixed.linear(&block.attention.out, None::<&Tensor>);
        let normed = rms_norm(&x, &block.post_norm, eps);
        x + model.feed_forward(block, &normed)
    }

    /// The float32 CPU step: the same arithmetic with norms, rotation, cache writes and attention
    /// fused, since at a handful of rows the time goes into starting operators.
    fn decode_fused(&mut self, model: &Decoder, rows: &DecodeRows) -> Tensor {
        self.decode_block_by_block(model, rows)
    }

    fn decode_block_by_block(&mut self, model: &Decoder, rows: &DecodeRows) -> Tensor {
        let tables = model.tables(&rows.positions);
        let mut x = model.embed(&rows.ids);
        for index in 0..model.num_blocks() {
            x = self.decode_block(model, index, &x, &tables, rows);
        }
        model.finish(&x)
    }
}

/// One query `[n, Hq, D]` per row over its slot's rows: two batched products and a softmax.
fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, rows: &DecodeRows) -> Tensor {
    let (n, heads, dim) = (q.size()[0], q.size()[1], q.size()[2]);
    let (kv_heads, span) = (keys.size()[1], rows.longest + 1);
    let gather = |cache: &Tensor| cache.i((.., .., ..span)).index_select(0, &rows.slots);
    let (keys, values) = (gather(keys), gather(values));
    let q = q.view([n, kv_heads, heads / kv_heads, dim]);
    let kind = q.kind();
    let scores = q.matmul(&keys.transpose(2, 3)).to_kind(reduce_kind(kind)) / (dim as f64).sqrt();
    let beyond = Tensor::arange(span, (Kind::Int64, q.device()))
        .unsqueeze(0)
        .gt_tensor(&rows.positions.unsqueeze(1))
        .view([n, 1, 1, span]);
    let weights = scores.masked_fill(&beyond, f64::NEG_INFINITY).softmax(-1, None).to_kind(kind);
    weights.matmul(&values).reshape([n, heads * dim])
}
