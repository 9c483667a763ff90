//! Pieces shared by the networks: norms, rotary embedding, segment attention.

use std::cell::RefCell;
use std::collections::HashMap;

use indexmap::IndexMap;
use tch::{Device, Kind, Tensor};
use torch_ext::TorchError;

use crate::input::Segment;

/// The kind in which reductions run: float64 stays, all else is float32.
pub fn reduce_kind(kind: Kind) -> Kind {
    if kind == Kind::Double {
        Kind::Double
    } else {
        Kind::Float
    }
}

/// Whether the steps between the matrix products of `x` have kernels of their own: in float32 on the CPU.
pub(crate) fn fuses(x: &Tensor) -> bool {
    x.kind() == Kind::Float && x.device() == Device::Cpu
}

/// What a kernel computed; where it failed, for lack of memory say, that is told as tch's operators tell it.
#[expect(
    clippy::panic,
    reason = "networks fail as tch's operators do; catch_torch turns that into an error"
)]
pub(crate) fn of_kernel<T>(computed: Result<T, TorchError>) -> T {
    computed.unwrap_or_else(|error| std::panic::panic_any(error.to_string()))
}

/// RMS norm over the last dimension, reduced in float32 (float64 stays): `x [.., H]`, `weight [H]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let kind = x.kind();
    let size = *weight
        .size()
        .last()
        .expect("a norm's weight has one dimension");
    if fuses(x) && x.is_contiguous() {
        return of_kernel(torch_ext::learn_rms_norm(x, weight, eps));
    }
    // A GPU's one kernel reduces in float32 whatever the kind.
    if kind == Kind::Float || kind == Kind::Double || x.device().is_cuda() {
        return x.rms_norm([size], Some(weight), eps);
    }
    let wide = x.to_kind(Kind::Float);
    let normed = wide.rms_norm([size], None::<&Tensor>, eps);
    normed.to_kind(kind) * weight
}

/// Activation functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The exact Gaussian error unit.
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// `x sigmoid(1.702 x)`, OpenAI's CLIP.
    QuickGelu,
    /// `x sigmoid(x)`
    Silu,
}

impl Activation {
    /// Elementwise.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::QuickGelu => (x * 1.702).sigmoid() * x,
            Self::Silu => x.silu(),
        }
    }
}

/// Cosines and sines of rotary angles, `[T, D]` each.
#[derive(Debug)]
pub struct RotaryTables {
    /// Cosines.
    pub cos: Tensor,
    /// Sines.
    pub sin: Tensor,
}

/// The rotary embedding for positions `[T]` or `[3, T]`, angles in float32.
pub struct Rotary {
    inv_freq: Tensor,
    /// Which of three positions each frequency turns by, `[1, 1, D/2]`.
    axes: Option<Tensor>,
}

/// `1 / theta^(2i/D)` in float32, `[D/2]`, as transformers computes it.
pub fn inverse_frequencies(theta: f64, dim: i64, device: Device) -> Tensor {
    let exponent = Tensor::arange_start_step(0, dim, 2, (Kind::Int64, device)).to_kind(Kind::Float)
        / dim as f64;
    Tensor::pow_scalar(theta, &exponent).reciprocal()
}

impl Rotary {
    /// `axes` says for each frequency which of three positions it turns by; empty for networks
    /// with plain positions.
    pub fn new(theta: f64, head_dim: i64, axes: &[i64], device: Device) -> Self {
        let axes =
            (!axes.is_empty()).then(|| Tensor::from_slice(axes).to_device(device).view([1, 1, -1]));
        Self {
            inv_freq: inverse_frequencies(theta, head_dim, device),
            axes,
        }
    }

    /// The tables for `positions`, of `kind`.
    pub fn tables(&self, positions: &Tensor, kind: Kind) -> RotaryTables {
        let angles = positions.to_kind(Kind::Float).unsqueeze(-1) * &self.inv_freq;
        let angles = match (&self.axes, angles.dim()) {
            (Some(axes), 3) => {
                let shape = [1, angles.size()[1], angles.size()[2]];
                angles
                    .gather(0, &axes.expand(shape, false), false)
                    .squeeze_dim(0)
            }
            (None, 3) => angles.select(0, 0),
            _ => angles,
        };
        let angles = Tensor::cat(&[&angles, &angles], -1);
        RotaryTables {
            cos: angles.cos().to_kind(kind),
            sin: angles.sin().to_kind(kind),
        }
    }
}

/// Rotates the halves of each head: `x [T, heads, D]`, tables `[T, D]`.
pub fn rotate(x: &Tensor, tables: &RotaryTables) -> Tensor {
    let half = x.size()[2] / 2;
    if x.device().is_cuda() {
        // The same with fewer passes over memory: the minus goes to the sines.
        let sin = &tables.sin;
        let sin = Tensor::cat(
            &[sin.narrow(1, 0, half).neg(), sin.narrow(1, half, half)],
            1,
        );
        return (x * tables.cos.unsqueeze(1)).addcmul(&x.roll(half, 2), &sin.unsqueeze(1));
    }
    let turned = Tensor::cat(&[&x.narrow(2, half, half).neg(), &x.narrow(2, 0, half)], 2);
    x * tables.cos.unsqueeze(1) + turned * tables.sin.unsqueeze(1)
}

/// Attention of packed rows within their segments: `q [T, Hq, D]`, `k` and `v [T, Hkv, D]`; each
/// row sees its segment's prefix whole and its own segment up to itself. Returns `[T, Hq * D]`.
///
/// Segments of one shape are computed together. The query heads that share a key head are laid out as
/// further rows of one attention, so keys and values are never repeated.
pub fn segment_attention(
    [q, k, v]: [&Tensor; 3],
    segments: &[Segment],
    masks: &CausalMasks,
) -> Tensor {
    let (heads, dim) = (q.size()[1], q.size()[2]);
    let kv_heads = k.size()[1];
    let shared = heads / kv_heads;
    let lengths: Vec<i64> = segments.iter().map(|segment| segment.rows.len).collect();
    let pieces =
        |x: &Tensor| -> Vec<Tensor> { x.transpose(0, 1).split_with_sizes(lengths.as_slice(), 1) };
    let (q, k, v) = (pieces(q), pieces(k), pieces(v));
    let mut out: Vec<Option<Tensor>> = segments.iter().map(|_| None).collect();
    for (shape, alike) in by_shape(segments) {
        let stack = |all: &[Tensor], places: &mut dyn Iterator<Item = usize>| {
            Tensor::stack(&places.map(|at| &all[at]).collect::<Vec<_>>(), 0)
        };
        let seen = |all: &[Tensor]| {
            let own = stack(all, &mut alike.iter().copied());
            if shape.prefix == 0 {
                return own;
            }
            let prefixes = alike.iter().filter_map(|&at| segments[at].prefix);
            Tensor::cat(&[stack(all, &mut prefixes.into_iter()), own], 2)
        };
        let count = alike.len() as i64;
        let queries = stack(&q, &mut alike.iter().copied());
        let queries = queries.view([count, kv_heads, shared * shape.rows, dim]);
        let (keys, values) = (seen(&k), seen(&v));
        let seen_rows = (shape.rows, keys.size()[2], shared);
        let mask = (shape.rows > 1).then(|| masks.get(seen_rows, &queries));
        let mixed = Tensor::scaled_dot_product_attention(
            &queries, &keys, &values, mask, 0.0, false, None, false,
        );
        let mixed = mixed.reshape([count, heads, shape.rows, dim]).unbind(0);
        for (at, mixed) in alike.into_iter().zip(mixed) {
            out[at] = Some(mixed);
        }
    }
    let out: Vec<Tensor> = out.into_iter().flatten().collect();
    let total: i64 = lengths.iter().sum();
    Tensor::cat(&out, 1)
        .transpose(0, 1)
        .reshape([total, heads * dim])
}

/// What decides the work of a segment's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SegmentShape {
    rows: i64,
    /// Rows of the prefix; 0 without.
    prefix: i64,
}

/// The places of segments of each shape, shapes in the order of their first one.
fn by_shape(segments: &[Segment]) -> IndexMap<SegmentShape, Vec<usize>> {
    let mut shapes: IndexMap<SegmentShape, Vec<usize>> = IndexMap::new();
    for (at, segment) in segments.iter().enumerate() {
        let shape = SegmentShape {
            rows: segment.rows.len,
            prefix: segment.prefix.map_or(0, |prefix| segments[prefix].rows.len),
        };
        shapes.entry(shape).or_default().push(at);
    }
    shapes
}

/// Additive causal masks of the shapes met in a pass; all its blocks read the same.
#[derive(Debug, Default)]
pub struct CausalMasks {
    /// By rows, keys, and query heads that share a key head.
    made: RefCell<HashMap<(i64, i64, i64), Tensor>>,
}

impl CausalMasks {
    /// `[shared * rows, keys]` for `q`: 0 where the key is seen, minus infinity elsewhere.
    fn get(&self, (rows, keys, shared): (i64, i64, i64), q: &Tensor) -> Tensor {
        let mut made = self.made.borrow_mut();
        if let Some(mask) = made.get(&(rows, keys, shared)) {
            return mask.shallow_clone();
        }
        // A graph holds each mask until its way back, whoever else does.
        if !q.requires_grad() {
            made.clear();
        }
        let mask = Tensor::full([rows, keys], f64::NEG_INFINITY, (q.kind(), q.device()))
            .triu(keys - rows + 1)
            .repeat([shared, 1]);
        made.insert((rows, keys, shared), mask.shallow_clone());
        mask
    }
}
