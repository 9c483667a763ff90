//! What a pass over packed rows holds at most, in bytes, by formula: counted from what each operator keeps for its
//! way back. `tests/plan` holds the formulas against the bytes that libtorch asks for.
//!
//! Numbers of one row of a block, with H the hidden size, Q and K the width of all query and of all key heads, I that
//! of the gated layer: two norms keep what they are given and what they give, attention its projection, queries, keys
//! and values as they are stacked, its result twice, the gated layer both halves and their product.

use models::vision::VisionConfig;
use models::{DecoderConfig, LoraConfig, LoraTargets, Recompute};

use crate::config::Dtype;
use crate::learn::HeadOptions;

/// The rows of a micro-batch, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MicroRows {
    /// That the network computes.
    pub rows: i64,
    /// That predict a token of the loss.
    pub targets: i64,
    /// Keys that the segments read, a shared prompt's once for each that reads it.
    pub keys: i64,
    /// The longest sequence.
    pub longest: i64,
}

/// How a pass runs.
#[derive(Debug, Clone, Copy)]
pub struct PassKind<'a> {
    /// What it computes in.
    pub dtype: Dtype,
    /// Whether on a GPU, whose attention needs no masks.
    pub gpu: bool,
    /// Which activations are computed anew.
    pub recompute: Recompute,
    /// The adapters that learn.
    pub lora: Option<&'a LoraConfig>,
}

/// The widths of a block.
struct Widths {
    hidden: i64,
    /// Of all query heads.
    q: i64,
    /// Of all key heads.
    kv: i64,
    wide: i64,
    heads: i64,
    head_norms: bool,
    /// Bytes of a number.
    element: i64,
    /// Whether norms, turns and gates are kernels of our own.
    kernels: bool,
    gpu: bool,
}

impl Widths {
    fn of(shape: &DecoderConfig, kind: &PassKind) -> Self {
        Self {
            hidden: shape.hidden_size,
            q: shape.num_heads * shape.head_dim,
            kv: shape.num_kv_heads * shape.head_dim,
            wide: shape.intermediate_size,
            heads: shape.num_heads,
            head_norms: shape.norms_heads(),
            element: match kind.dtype {
                Dtype::Float32 => 4,
                Dtype::Bfloat16 => 2,
            },
            kernels: kind.dtype == Dtype::Float32 && !kind.gpu,
            gpu: kind.gpu,
        }
    }

    /// Bytes that a block keeps of each row for its way back, and of each key.
    fn kept(&self) -> (i64, i64) {
        let Self {
            hidden,
            q,
            kv,
            wide,
            heads,
            element,
            ..
        } = *self;
        let attention = element * (q + q + q) + 4 * heads;
        let row = match self.kernels {
            // What the norms are given and give, the projection, both halves and their product.
            true => element * (4 * hidden + (q + 2 * kv) + 3 * wide) + attention,
            // One kernel a norm, and attention's result as it is.
            false if self.gpu => {
                element * (4 * hidden + (q + 2 * kv) + 4 * wide) + attention - element * q
            }
            false => {
                let norm = 4 + 2 * element;
                let turned = if self.head_norms {
                    (4 + element) * (q + kv)
                } else {
                    0
                };
                2 * norm * hidden + turned + attention + element * 4 * wide
            }
        };
        (row, element * 2 * kv)
    }

    /// Bytes that the way back through a block needs besides, of each row: the gated layer's gradients.
    fn back(&self) -> i64 {
        self.element * (2 * self.wide + self.hidden)
    }

    /// Bytes of the largest gradient of a weight, before it is added to the others.
    fn largest_weight(&self) -> i64 {
        let Self {
            hidden,
            q,
            kv,
            wide,
            ..
        } = *self;
        self.element * hidden * (2 * wide).max(q + 2 * kv)
    }

    /// Bytes a row that a block needs without gradients.
    fn forward(&self) -> i64 {
        let Self {
            hidden,
            q,
            kv,
            wide,
            ..
        } = *self;
        let gated = 2 * hidden + 3 * wide;
        let attention = 2 * hidden + 3 * q + 4 * kv;
        self.element * gated.max(attention)
    }
}

/// Bytes of the adapters' part of a block, a row: in float32, with dropout a copy of each input.
fn adapters(widths: &Widths, lora: &LoraConfig) -> i64 {
    let Widths {
        hidden, q, wide, ..
    } = *widths;
    let named = |name: &str| match &lora.targets {
        LoraTargets::All(_) => true,
        LoraTargets::Names(names) => names.iter().any(|it| it == name),
    };
    let maps = [
        (hidden, &["q_proj", "k_proj", "v_proj"][..]),
        (q, &["o_proj"][..]),
        (hidden, &["gate_proj", "up_proj"][..]),
        (wide, &["down_proj"][..]),
    ];
    let mut bytes = 0;
    for (input, parts) in maps {
        let own = parts.iter().filter(|part| named(part)).count() as i64;
        if own == 0 {
            continue;
        }
        bytes += 4 * own * lora.rank;
        if widths.element < 4 {
            bytes += 4 * input;
        }
        if lora.dropout > 0.0 {
            bytes += 4 * own * input;
        }
    }
    bytes
}

/// Bytes of activations that a pass of learning holds until its way back, and those that it needs besides while it
/// is in a block.
pub fn learning(shape: &DecoderConfig, rows: MicroRows, kind: &PassKind) -> (i64, i64) {
    let widths = Widths::of(shape, kind);
    let (row, key) = widths.kept();
    let row = row + kind.lora.map_or(0, |lora| adapters(&widths, lora));
    let block = row * rows.rows + key * rows.keys;
    let stream = widths.element * widths.hidden * rows.rows;
    let shared = shape.num_heads / shape.num_kv_heads;
    let masks = match kind.gpu {
        true => 0,
        false => widths.element * shared * rows.rows * rows.longest,
    };
    // The rows after the last norm, and what they are made of.
    let ends = 3 * stream + masks;
    let layers = shape.num_layers;
    let weight = match kind.lora {
        Some(_) => 0,
        None => widths.largest_weight(),
    };
    let back = (widths.back() * rows.rows).max(weight);
    match kind.recompute {
        Recompute::None => (layers * block + ends, back),
        Recompute::Blocks => ((layers + 1) * stream + ends, block + back),
    }
}

/// Bytes of the head while its gradient is made; `entropy` says whether the loss looks at it.
pub fn head(
    shape: &DecoderConfig,
    targets: i64,
    (options, entropy, dtype): (&HeadOptions, bool, Dtype),
) -> i64 {
    let rows = options.rows_of(shape.vocab_size).min(targets);
    let numbers = rows * shape.vocab_size;
    let wide = if entropy { 5 } else { 3 };
    let narrow = match dtype {
        Dtype::Float32 => 0,
        Dtype::Bfloat16 => 2,
    };
    numbers * (4 * wide).max(4 * 2 + narrow)
}

/// Bytes of a pass over `rows` without gradients.
pub fn forward(shape: &DecoderConfig, rows: i64, kind: &PassKind) -> i64 {
    Widths::of(shape, kind).forward() * rows
}

/// Prompt rows that are run at once before completions are drawn, at most.
pub const PREFILL_ROWS: i64 = 16_384;

/// Bytes of a vision tower over so many patches: with `learns` what it keeps for its way back.
pub fn tower(config: &VisionConfig, patches: i64, (learns, dtype): (bool, Dtype)) -> i64 {
    let element = match dtype {
        Dtype::Float32 => 4,
        Dtype::Bfloat16 => 2,
    };
    let (wide, inner) = (config.hidden_size, config.intermediate_size);
    let row = match learns {
        // Norms' inputs and results, q, k, v before and after they are turned, attention's result twice, the
        // feed-forward before and after its activation.
        true => config.depth * (4 * wide + 6 * wide + 2 * wide + 2 * inner),
        false => (2 * wide + 2 * inner).max(8 * wide),
    };
    element * patches * row
}
