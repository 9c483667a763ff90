//! Attention of packed rows on a GPU: one call of flash attention a layer, whatever the lengths, nothing padded.
//!
//! A segment that sees an earlier one whole has the keys of both; they must be neighbours, so they are copied together,
//! the earlier one's once for each that sees it. Without such segments nothing is copied. Gradients flow through both.

use tch::{Device, Kind, Tensor};
use torch_ext::{FlashArgs, PackedRows, flash_attention, flash_available};

use crate::input::Segment;
use crate::layers::of_kernel;

/// Where packed sequences start, on the device.
#[derive(Debug)]
struct Starts {
    /// And the end of the last, `[n + 1]` int32.
    at: Tensor,
    longest: i64,
}

impl Starts {
    fn of(lengths: &[i64], device: Device) -> Self {
        let ends = lengths.iter().scan(0i64, |end, len| {
            *end += len;
            Some(*end as i32)
        });
        let at: Vec<i32> = std::iter::once(0).chain(ends).collect();
        Self {
            at: Tensor::from_slice(&at).to_device(device),
            longest: lengths.iter().copied().max().unwrap_or(0),
        }
    }

    fn rows(&self) -> PackedRows<'_> {
        PackedRows {
            starts: &self.at,
            longest: self.longest,
        }
    }
}

/// Where the segments of an input are, as flash attention takes them.
#[derive(Debug)]
pub(crate) struct PackedSegments {
    queries: Starts,
    keys: Starts,
    /// The packed rows whose keys each segment sees, one segment after the other, `[K]` int64; `None` where each sees
    /// its own alone.
    seen: Option<Tensor>,
}

impl PackedSegments {
    /// For heads of `dim` numbers; `None` where `device` has no flash attention for them.
    pub(crate) fn new(
        segments: &[Segment],
        dim: i64,
        (kind, device): (Kind, Device),
    ) -> Option<Self> {
        if !flash_available(device, kind, dim) {
            return None;
        }
        let own: Vec<i64> = segments.iter().map(|segment| segment.rows.len).collect();
        let shared = segments.iter().any(|segment| segment.prefix.is_some());
        if !shared {
            return Some(Self {
                queries: Starts::of(&own, device),
                keys: Starts::of(&own, device),
                seen: None,
            });
        }
        let prefix = |segment: &Segment| segment.prefix.map(|prefix| segments[prefix].rows);
        let spans = |segment| prefix(segment).into_iter().chain([segment.rows]);
        let lengths = segments
            .iter()
            .map(|segment| spans(segment).map(|span| span.len).sum());
        let lengths: Vec<i64> = lengths.collect();
        let rows = segments.iter().flat_map(spans);
        let rows: Vec<i64> = rows
            .flat_map(|span| span.start..span.start + span.len)
            .collect();
        Some(Self {
            queries: Starts::of(&own, device),
            keys: Starts::of(&lengths, device),
            seen: Some(Tensor::from_slice(&rows).to_device(device)),
        })
    }

    /// [`crate::layers::segment_attention`]: `q [T, Hq, D]`, `k` and `v [T, Hkv, D]` to `[T, Hq * D]`.
    pub(crate) fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let size = q.size();
        let seen = |x: &Tensor| match &self.seen {
            None => x.shallow_clone(),
            Some(rows) => x.index_select(0, rows),
        };
        let mixed = of_kernel(flash_attention(FlashArgs {
            q,
            k: &seen(k),
            v: &seen(v),
            queries: self.queries.rows(),
            keys: self.keys.rows(),
            key_lengths: None,
            causal: true,
        }));
        mixed.0.reshape([size[0], size[1] * size[2]])
    }
}

/// Consecutive runs of rows, each of which sees all of its run.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) lengths: Vec<i64>,
    starts: Option<Starts>,
}

impl Runs {
    /// Runs of these lengths, over heads of `dim` numbers.
    pub(crate) fn new(lengths: Vec<i64>, dim: i64, (kind, device): (Kind, Device)) -> Self {
        let starts = flash_available(device, kind, dim).then(|| Starts::of(&lengths, device));
        Self { lengths, starts }
    }

    /// Attention of `q`, `k`, `v [n, heads, D]` in one call, `[n, heads * D]`, where flash attention is to be had.
    pub(crate) fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Option<Tensor> {
        let starts = self.starts.as_ref()?;
        let size = q.size();
        let mixed = of_kernel(flash_attention(FlashArgs {
            q,
            k,
            v,
            queries: starts.rows(),
            keys: starts.rows(),
            key_lengths: None,
            causal: false,
        }));
        Some(mixed.0.reshape([size[0], size[1] * size[2]]))
    }
}
