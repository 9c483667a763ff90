//! What a language model is fed: packed rows, their positions and who may look at whom.

use tch::{Device, Kind, Tensor};

/// `len` consecutive rows from `start` in a packed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First row.
    pub start: i64,
    /// Number of rows.
    pub len: i64,
}

/// Rows that attend causally to themselves and, whole, to an earlier segment.
///
/// A group's prompt is one segment; each of its completions is a segment whose `prefix` is the
/// prompt: the prompt's rows are computed once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The rows; the segments of an input follow each other without gaps.
    pub rows: Span,
    /// Index of an earlier segment that every row sees.
    pub prefix: Option<usize>,
}

/// Packed token rows without padding.
#[derive(Debug)]
pub struct LmInput {
    /// Token ids `[T]` int64.
    pub ids: Tensor,
    /// Rotary positions `[T]` int64.
    pub positions: Tensor,
    /// The segments, covering `0..T` in order.
    pub segments: Vec<Segment>,
}

impl LmInput {
    /// An empty input to which segments are appended.
    pub fn builder() -> LmInputBuilder {
        LmInputBuilder::default()
    }
}

/// Collects segments into an [`LmInput`].
#[derive(Debug, Default)]
pub struct LmInputBuilder {
    ids: Vec<i64>,
    positions: Vec<i64>,
    segments: Vec<Segment>,
}

impl LmInputBuilder {
    /// Appends `ids` as a segment, seeing all of segment `prefix` if given; returns its index.
    pub fn push(&mut self, ids: &[i64], prefix: Option<usize>) -> usize {
        let from = prefix.map_or(0, |index| self.segments[index].rows.len);
        let rows = Span {
            start: self.ids.len() as i64,
            len: ids.len() as i64,
        };
        self.ids.extend_from_slice(ids);
        self.positions.extend(from..from + rows.len);
        self.segments.push(Segment { rows, prefix });
        self.segments.len() - 1
    }

    /// The rows of segment `index`.
    pub fn rows(&self, index: usize) -> Span {
        self.segments[index].rows
    }

    /// Number of rows so far.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True before the first segment.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The finished input on `device`.
    pub fn build(self, device: Device) -> LmInput {
        LmInput {
            ids: Tensor::from_slice(&self.ids)
                .to_kind(Kind::Int64)
                .to_device(device),
            positions: Tensor::from_slice(&self.positions)
                .to_kind(Kind::Int64)
                .to_device(device),
            segments: self.segments,
        }
    }
}
