//! What a language model is fed: packed rows, their positions and who may look at whom.

use tch::{Device, Kind, Tensor};

use crate::lora::{AdapterMode, AdapterPass, chain_keys};

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
    /// Rotary positions int64: `[T]`, or `[3, T]` (time, row, column) where a picture is among
    /// the rows of a network with three-part positions.
    pub positions: Tensor,
    /// The segments, covering `0..T` in order.
    pub segments: Vec<Segment>,
    /// The rows that show pictures, `[n]` int64; empty for text.
    pub image_rows: Tensor,
    /// What these rows show; `None` for text, and until [`Self::with_features`] gave it.
    pub features: Option<Features>,
    /// What adapters do with these rows.
    pub adapters: AdapterMode,
    /// A hash of the tokens up to each row, its own included, `[T]` int64: what dropout is keyed by.
    pub row_keys: Tensor,
}

/// What a vision tower says of pictures, in the decoder's width.
#[derive(Debug)]
pub struct Features {
    /// In place of the image tokens' embeddings, `[n, H]`.
    pub main: Tensor,
    /// DeepStack: added to the image rows after block 0, 1, .., each `[n, H]`.
    pub deep: Vec<Tensor>,
}

impl Features {
    /// All its tensors in a fixed order.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.main).chain(&self.deep)
    }

    /// `change` of each tensor.
    pub fn map(&self, change: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            main: change(&self.main),
            deep: self.deep.iter().map(&change).collect(),
        }
    }

    /// The rows of several, one after the other; `None` of none.
    pub fn concat(all: &[&Features]) -> Option<Self> {
        let first = all.first()?;
        let join = |pick: &dyn Fn(&Features) -> Tensor| {
            Tensor::cat(&all.iter().map(|one| pick(one)).collect::<Vec<_>>(), 0)
        };
        Some(Self {
            main: join(&|one| one.main.shallow_clone()),
            deep: (0..first.deep.len())
                .map(|index| join(&|one| one.deep[index].shallow_clone()))
                .collect(),
        })
    }
}

impl LmInput {
    /// An empty input to which segments are appended.
    pub fn builder() -> LmInputBuilder {
        LmInputBuilder::default()
    }

    /// The same rows, their pictures shown as `features`.
    pub fn with_features(&self, features: Option<Features>) -> Self {
        Self {
            ids: self.ids.shallow_clone(),
            positions: self.positions.shallow_clone(),
            segments: self.segments.clone(),
            image_rows: self.image_rows.shallow_clone(),
            features,
            adapters: self.adapters,
            row_keys: self.row_keys.shallow_clone(),
        }
    }

    /// What adapters are told of its rows.
    pub(crate) fn adapter_pass(&self) -> AdapterPass<'_> {
        AdapterPass {
            mode: self.adapters,
            rows: Some(&self.row_keys),
        }
    }

    /// The same rows, with which adapters do as `mode` says.
    #[must_use]
    pub fn with_adapters(self, mode: AdapterMode) -> Self {
        Self {
            adapters: mode,
            ..self
        }
    }
}

/// Where the pictures of a token sequence are and how its rows count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImagePositions {
    /// The rows of image tokens, ascending.
    pub rows: Vec<i64>,
    /// Position of every row: time, row and column.
    pub positions: Vec<[i64; 3]>,
    /// Position of what follows the sequence.
    pub next: i64,
}

impl ImagePositions {
    /// Shows nothing: rows count from `from`.
    fn text(len: usize, from: i64) -> Self {
        Self {
            rows: Vec::new(),
            positions: (from..from + len as i64).map(|at| [at; 3]).collect(),
            next: from + len as i64,
        }
    }
}

/// Collects segments into an [`LmInput`].
#[derive(Debug, Default)]
pub struct LmInputBuilder {
    ids: Vec<i64>,
    positions: Vec<[i64; 3]>,
    image_rows: Vec<i64>,
    segments: Vec<Segment>,
    /// Position of what follows each segment.
    next: Vec<i64>,
    /// A hash of the tokens up to each row.
    row_keys: Vec<i64>,
}

impl LmInputBuilder {
    /// Appends `ids` as a segment, seeing all of segment `prefix` if given; returns its index.
    pub fn push(&mut self, ids: &[i64], prefix: Option<usize>) -> usize {
        let from = prefix.map_or(0, |index| self.next[index]);
        self.push_positioned(ids, &ImagePositions::text(ids.len(), from), prefix)
    }

    /// Appends `ids` as a segment whose first rows are a prompt with pictures, text after it.
    pub fn push_with_images(&mut self, ids: &[i64], images: &ImagePositions) -> usize {
        let text = ImagePositions::text(ids.len() - images.positions.len(), images.next);
        let whole = ImagePositions {
            rows: images.rows.clone(),
            positions: [images.positions.as_slice(), &text.positions].concat(),
            next: text.next,
        };
        self.push_positioned(ids, &whole, None)
    }

    fn push_positioned(
        &mut self,
        ids: &[i64],
        images: &ImagePositions,
        prefix: Option<usize>,
    ) -> usize {
        let rows = Span {
            start: self.ids.len() as i64,
            len: ids.len() as i64,
        };
        self.ids.extend_from_slice(ids);
        let before = prefix.map(|index| self.segments[index].rows);
        let before = before.filter(|rows| rows.len > 0);
        let before = before.map(|rows| self.row_keys[(rows.start + rows.len - 1) as usize]);
        self.row_keys.extend(chain_keys(before, ids));
        self.positions.extend_from_slice(&images.positions);
        self.image_rows
            .extend(images.rows.iter().map(|row| rows.start + row));
        self.segments.push(Segment { rows, prefix });
        self.next.push(images.next);
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
        let ints = |values: &[i64]| {
            Tensor::from_slice(values)
                .to_kind(Kind::Int64)
                .to_device(device)
        };
        let column =
            |part: usize| -> Vec<i64> { self.positions.iter().map(|at| at[part]).collect() };
        let flat = self
            .positions
            .iter()
            .all(|at| at[1] == at[0] && at[2] == at[0]);
        let positions = match flat {
            true => ints(&column(0)),
            false => ints(&[column(0), column(1), column(2)].concat()).view([3, -1]),
        };
        LmInput {
            ids: ints(&self.ids),
            positions,
            image_rows: ints(&self.image_rows),
            row_keys: ints(&self.row_keys),
            segments: self.segments,
            features: None,
            adapters: AdapterMode::On,
        }
    }
}
