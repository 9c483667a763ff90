//! The order in which a stage draws its prompts.
//!
//! Sources of one task form a strand, drawn in proportion to its rows; where sources have
//! weights, each is a strand of its own with its weight as share. The next draw goes to
//! the strand that is furthest behind its share, so every batch holds the proportions as
//! exactly as whole numbers allow, and with shares by size one pass over everything draws
//! each row once. Within a strand the order is a permutation computed from seed and epoch,
//! or ascending reference length: counts of draws are all the state there is. Ranks do not
//! appear here: each takes its part of the same list.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, SkippedRow};
use super::config::{CurriculumConfig, Order};
use super::error::DataError;
use super::example::{Draw, Example};
use super::shuffle::{mix, name_key, permuted};

/// A stage's place in its data.
#[derive(Debug, Clone)]
pub struct Cursor {
    catalog: Arc<Catalog>,
    strands: Vec<Strand>,
    draws: u64,
    /// Bad rows passed over since they were last asked for.
    skipped: Vec<SkippedRow>,
}

/// What a checkpoint holds of a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorState {
    /// Draws made in the stage.
    pub draws: u64,
    /// Draws made of each strand, and its size, which must be the same on resume.
    pub strands: IndexMap<String, StrandState>,
}

/// One strand's part of a [`CursorState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrandState {
    /// Draws made.
    pub drawn: u64,
    /// Rows.
    pub rows: u64,
}

#[derive(Debug, Clone)]
struct Strand {
    name: String,
    share: f64,
    drawn: u64,
    key: u64,
    /// Places of its sources in the catalog, with their row counts.
    sources: Vec<(usize, usize)>,
    /// Rows by ascending reference length; `None` when they are shuffled.
    sorted: Option<Arc<Vec<u32>>>,
}

impl Cursor {
    /// The beginning of a stage whose data order depends on `seed`.
    ///
    /// # Errors
    /// An unknown source, no row to train on, or weights given for some sources only.
    pub fn new(
        catalog: Arc<Catalog>,
        config: &CurriculumConfig,
        seed: u64,
    ) -> Result<Self, DataError> {
        let chosen: Vec<usize> = catalog
            .select(&config.sources, "curriculum.sources")?
            .into_iter()
            .filter(|index| catalog.source(*index).train_len() > 0)
            .collect();
        if chosen.is_empty() {
            return Err(DataError::config(
                "curriculum.sources",
                "no source has a row to train on (see data.sources and their `split`)",
            ));
        }
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
        let mut strands: Vec<Strand> = Vec::new();
        for index in chosen {
            let source = catalog.source(index);
            let rows = source.train_len();
            match strands.iter_mut().find(|s| s.name == source.task) {
                Some(strand) if source.weight.is_none() => {
                    strand.sources.push((index, rows));
                    strand.share += rows as f64;
                }
                _ => {
                    let name = match source.weight {
                        Some(_) => source.name.clone(),
                        None => source.task.clone(),
                    };
                    strands.push(Strand {
                        key: mix(&[seed, name_key(&name)]),
                        name,
                        share: source.weight.unwrap_or(rows as f64),
                        drawn: 0,
                        sources: vec![(index, rows)],
                        sorted: None,
                    });
                }
            }
        }
        let total: f64 = strands.iter().map(|strand| strand.share).sum();
        for strand in &mut strands {
            strand.share /= total;
            if config.order == Order::Sorted {
                strand.sorted = Some(Arc::new(strand.by_length(&catalog)));
            }
        }
        Ok(Self {
            catalog,
            strands,
            draws: 0,
            skipped: Vec::new(),
        })
    }

    /// The next `n` draws. Bad rows are passed over where the config says so; their draws count.
    ///
    /// # Errors
    /// A bad row, or a file that changed or vanished since it was opened, the cursor then standing
    /// at the draw that failed; or a thousand bad rows in a row.
    pub fn next(&mut self, n: usize) -> Result<Vec<Draw>, DataError> {
        const MOST: usize = 1000;
        let mut draws = Vec::with_capacity(n);
        let mut streak = 0;
        while draws.len() < n {
            let strand = self.furthest_behind();
            match self.strands[strand].example(&self.catalog)? {
                Ok(example) => {
                    streak = 0;
                    draws.push(Draw {
                        example,
                        draw: self.draws,
                    });
                }
                Err(skipped) if streak + 1 == MOST => {
                    return Err(DataError::config(
                        format!("data.sources.{}", skipped.source),
                        format!(
                            "{MOST} bad rows one after another; the last: {}",
                            skipped.message
                        ),
                    ));
                }
                Err(skipped) => {
                    streak += 1;
                    self.skipped.push(skipped);
                }
            }
            self.strands[strand].drawn += 1;
            self.draws += 1;
        }
        Ok(draws)
    }

    /// The bad rows passed over since this was last asked.
    pub fn take_skipped(&mut self) -> Vec<SkippedRow> {
        std::mem::take(&mut self.skipped)
    }

    /// What has to be stored to go on from here.
    pub fn state(&self) -> CursorState {
        CursorState {
            draws: self.draws,
            strands: self
                .strands
                .iter()
                .map(|strand| {
                    let state = StrandState {
                        drawn: strand.drawn,
                        rows: strand.rows() as u64,
                    };
                    (strand.name.clone(), state)
                })
                .collect(),
        }
    }

    /// Goes to a stored place.
    ///
    /// # Errors
    /// The stored strands are not this config's, by name or by size.
    pub fn restore(&mut self, state: &CursorState) -> Result<(), DataError> {
        if state.strands.len() != self.strands.len() {
            let stored: Vec<_> = state.strands.keys().collect();
            let ours: Vec<_> = self.strands.iter().map(|strand| &strand.name).collect();
            return Err(DataError::State(format!(
                "it holds {stored:?}, the config gives {ours:?}"
            )));
        }
        for strand in &self.strands {
            let rows = strand.rows() as u64;
            match state.strands.get(&strand.name) {
                Some(stored) if stored.rows == rows => {}
                Some(stored) => {
                    return Err(DataError::State(format!(
                        "`{}` had {} rows and now has {rows}",
                        strand.name, stored.rows
                    )));
                }
                None => {
                    return Err(DataError::State(format!("`{}` is not in it", strand.name)));
                }
            }
        }
        for strand in &mut self.strands {
            strand.drawn = state.strands[&strand.name].drawn;
        }
        self.draws = state.draws;
        Ok(())
    }

    /// The strand that lacks most of its share once one more draw is made.
    fn furthest_behind(&self) -> usize {
        let after = (self.draws + 1) as f64;
        let mut best = (0, f64::NEG_INFINITY);
        for (index, strand) in self.strands.iter().enumerate() {
            let lack = after * strand.share - strand.drawn as f64;
            if lack > best.1 {
                best = (index, lack);
            }
        }
        best.0
    }
}

impl Strand {
    fn rows(&self) -> usize {
        self.sources.iter().map(|(_, rows)| rows).sum()
    }

    /// The example of the strand's next draw.
    fn example(&self, catalog: &Catalog) -> Result<Result<Example, SkippedRow>, DataError> {
        let rows = self.rows() as u64;
        let (epoch, at) = (self.drawn / rows, (self.drawn % rows) as usize);
        let row = match &self.sorted {
            Some(order) => order[at] as usize,
            None => permuted(at, rows as usize, mix(&[self.key, epoch])),
        };
        let (source, row) = self.locate(row);
        catalog.drawn(source, row)
    }

    /// Source and row within it of a row counted over all sources of the strand.
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

    fn by_length(&self, catalog: &Catalog) -> Vec<u32> {
        let length = |row: u32| {
            let (source, row) = self.locate(row as usize);
            catalog.source(source).train_length(row)
        };
        let mut order: Vec<u32> = (0..self.rows() as u32).collect();
        order.sort_by_cached_key(|row| (length(*row), *row));
        order
    }
}
