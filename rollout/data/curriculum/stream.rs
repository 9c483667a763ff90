//! Rows that are drawn together: all of one task, or of one weighted source, and parts of them.

use std::sync::Arc;

use crate::data::catalog::{Catalog, SkippedRow};
use crate::data::error::DataError;
use crate::data::example::Example;
use crate::data::order::{Buckets, PlainOrder};
use crate::data::shuffle::{mix, name_key, permuted};

/// The rows of one task or of one weighted source.
#[derive(Debug, Clone)]
pub(super) struct DataStream {
    pub(super) name: String,
    /// Share in the draws relative to the other streams, where the sources' weights give it.
    pub(super) weight: Option<f64>,
    key: u64,
    /// Places of its sources in the catalog, with their row counts.
    sources: Vec<(usize, usize)>,
    /// Rows by ascending reference length; `None` where the order does not ask for it.
    by_length: Option<Arc<Vec<u32>>>,
}

/// Rows of a stream that are drawn in turn: all of them, or one bucket.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Number of the bucket, from 1.
    pub(super) bucket: Option<usize>,
    pub(super) rows: usize,
    /// Draws made.
    pub(super) drawn: u64,
    /// Running mean of the spread of rewards, once it was observed.
    pub(super) spread: Option<f64>,
    /// Place of its first row among the stream's rows by length.
    first: usize,
    order: PlainOrder,
}

impl DataStream {
    /// The streams of the chosen sources: one a task, or one a source where sources have weights.
    pub(super) fn of(
        catalog: &Catalog,
        chosen: &[usize],
        seed: u64,
    ) -> Result<Vec<Self>, DataError> {
        let weighted = chosen
            .iter()
            .filter(|index| catalog.source(**index).weight.is_some())
            .count();
        if weighted != 0 && weighted != chosen.len() {
            return Err(DataError::config(
                "data.sources",
                "some sources of the stage have a weight and some have none; give it to all or to none",
            ));
        }
        let mut streams: Vec<Self> = Vec::new();
        for &index in chosen {
            let source = catalog.source(index);
            let rows = source.train_len();
            match streams.iter_mut().find(|s| s.name == source.task) {
                Some(stream) if source.weight.is_none() => stream.sources.push((index, rows)),
                _ => {
                    let name = match source.weight {
                        Some(_) => source.name.clone(),
                        None => source.task.clone(),
                    };
                    streams.push(Self {
                        key: mix(&[seed, name_key(&name)]),
                        name,
                        weight: source.weight,
                        sources: vec![(index, rows)],
                        by_length: None,
                    });
                }
            }
        }
        Ok(streams)
    }

    pub(super) fn rows(&self) -> usize {
        self.sources.iter().map(|(_, rows)| rows).sum()
    }

    /// A number of this stream alone, for choices among its parts.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Orders the rows by length, as [`PlainOrder::Sorted`] and buckets need them.
    pub(super) fn sort(&mut self, catalog: &Catalog) {
        let mut order: Vec<u32> = (0..self.rows() as u32).collect();
        order.sort_by_cached_key(|row| (self.length(catalog, *row), *row));
        self.by_length = Some(Arc::new(order));
    }

    /// All rows, as one part.
    pub(super) fn whole(&self, order: PlainOrder) -> Part {
        Part {
            bucket: None,
            first: 0,
            rows: self.rows(),
            drawn: 0,
            spread: None,
            order,
        }
    }

    /// The buckets that hold a row of it; the rows must be sorted.
    pub(super) fn buckets(&self, catalog: &Catalog, buckets: &Buckets) -> Vec<Part> {
        let by_length = self.by_length.as_deref().map_or(&[][..], Vec::as_slice);
        let all = by_length.len();
        let end = |bucket: usize| match buckets {
            Buckets::Count(count) => bucket * all / count,
            Buckets::Bounds(bounds) => bounds.get(bucket - 1).map_or(all, |bound| {
                by_length.partition_point(|row| self.length(catalog, *row) <= *bound)
            }),
        };
        let mut first = 0;
        let mut parts = Vec::new();
        for bucket in 1..=buckets.count() {
            let end = end(bucket);
            if end > first {
                parts.push(Part {
                    bucket: Some(bucket),
                    first,
                    rows: end - first,
                    drawn: 0,
                    spread: None,
                    order: PlainOrder::Shuffled,
                });
            }
            first = end;
        }
        parts
    }

    /// The example of a part's next draw.
    pub(super) fn example(
        &self,
        catalog: &Catalog,
        part: &Part,
    ) -> Result<Result<Example, SkippedRow>, DataError> {
        let rows = part.rows as u64;
        let (epoch, at) = (part.drawn / rows, (part.drawn % rows) as usize);
        let place = match (part.order, part.bucket) {
            (PlainOrder::Sorted, _) => at,
            (PlainOrder::Shuffled, None) => permuted(at, part.rows, mix(&[self.key, epoch])),
            (PlainOrder::Shuffled, Some(bucket)) => {
                permuted(at, part.rows, mix(&[self.key, epoch, bucket as u64]))
            }
        };
        let row = match &self.by_length {
            Some(by_length) => by_length[part.first + place] as usize,
            None => place,
        };
        let (source, row) = self.locate(row);
        catalog.drawn(source, row)
    }

    fn length(&self, catalog: &Catalog, row: u32) -> u32 {
        let (source, row) = self.locate(row as usize);
        catalog.source(source).train_length(row)
    }

    /// Source and row within it of a row counted over all sources of the stream.
    fn locate(&self, row: usize) -> (usize, usize) {
        let mut first = 0;
        self.sources
            .iter()
            .find_map(|(source, rows)| {
                let within = (row - first < *rows).then_some((*source, row - first));
                first += rows;
                within
            })
            .expect("a row below the sum of all row counts lies in one source")
    }
}
