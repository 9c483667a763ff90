//! The order in which a stage draws its prompts.
//!
//! Sources of one task form a stream, drawn in proportion to its rows; where sources have
//! weights, each is a stream of its own with its weight as share. The next draw goes to
//! the stream that is furthest behind its share, so every batch holds the proportions as
//! exactly as whole numbers allow, and with shares by size one pass over everything draws
//! each row once. Within a stream the order is a permutation computed from seed and epoch, or
//! ascending reference length, or the same within buckets of length that come one after the other
//! or are chosen by the rewards observed. Counts of draws, and one running mean a bucket, are all
//! the state there is. Ranks do not appear here: each takes its part of the same list, and must be
//! told the rewards of all.

mod mixture;
mod spread;
mod stream;

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, SkippedRow};
use super::error::DataError;
use super::example::Draw;
use super::order::{BucketedOrder, CurriculumConfig, ObservedOrder, Order, PlainOrder};
use mixture::Mixture;
use stream::{DataStream, Part};

/// A stage's place in its data.
#[derive(Debug, Clone)]
pub struct Cursor {
    catalog: Arc<Catalog>,
    streams: Vec<DataStream>,
    /// One after the other.
    mixtures: Vec<Mixture>,
    /// How rewards choose, where they do.
    observed: Option<ObservedOrder>,
    draws: u64,
    /// Draws whose rewards were not told yet: number, sampler, part.
    pending: Vec<(u64, usize, usize)>,
    /// Bad rows passed over since they were last asked for.
    skipped: Vec<SkippedRow>,
}

/// What a checkpoint holds of a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CursorState {
    /// Draws made in the stage.
    pub draws: u64,
    /// Draws made of each stream (of each bucket of it), and its size, which must be the same on
    /// resume.
    #[serde(rename = "strands")]
    pub streams: IndexMap<String, StreamState>,
    /// Draws whose rewards were not told yet, where rewards choose: number, place of the sampler, place of its part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<(u64, usize, usize)>,
}

/// One stream's part of a [`CursorState`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StreamState {
    /// Draws made.
    pub drawn: u64,
    /// Rows.
    pub rows: u64,
    /// Running mean of the spread of rewards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

/// What the curriculum `observed` knows of a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// Task, or weighted source.
    pub stream: String,
    /// Number of the bucket, from 1.
    pub bucket: usize,
    /// Running mean of the spread of rewards.
    pub mean: f64,
}

impl Cursor {
    /// The beginning of a stage whose data order depends on `seed`.
    ///
    /// # Errors
    /// An unknown source, no row to train on, weights given for some sources only, or a bucket
    /// without any row.
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
        let mut streams = DataStream::of(&catalog, &chosen, seed)?;
        if config.order != Order::Plain(PlainOrder::Shuffled) {
            streams.iter_mut().for_each(|stream| stream.sort(&catalog));
        }
        Ok(Self {
            mixtures: Mixture::of(config, &streams, &catalog)?,
            catalog,
            streams,
            observed: match &config.order {
                Order::Bucketed(BucketedOrder::Observed(observed)) => Some(observed.clone()),
                _ => None,
            },
            draws: 0,
            pending: Vec::new(),
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
            let mixture = self.mixture();
            let (sampler, part) =
                self.mixtures[mixture].next(&self.streams, self.observed.as_ref());
            let stream = &self.streams[self.mixtures[mixture].samplers[sampler].stream];
            let part_of = &mut self.mixtures[mixture].samplers[sampler].parts[part];
            match stream.example(&self.catalog, part_of)? {
                Ok(example) => {
                    streak = 0;
                    draws.push(Draw {
                        example,
                        draw: self.draws,
                        bucket: part_of.bucket,
                    });
                    if self.observed.is_some() {
                        self.pending.push((self.draws, sampler, part));
                    }
                }
                Err(skipped) if streak + 1 == MOST => {
                    return Err(DataError::config(
                        format!("data.sources.{}", skipped.source),
                        format!("{MOST} bad rows one after another; the last: {skipped}"),
                    ));
                }
                Err(skipped) => {
                    streak += 1;
                    self.skipped.push(skipped);
                }
            }
            part_of.drawn += 1;
            self.draws += 1;
        }
        Ok(draws)
    }

    /// Hears of the rewards of the draws below number `end` that it has not heard of: each draw's number with its
    /// completions' total rewards, of all ranks and in the same order on each. Draws that are not
    /// named were left out.
    pub fn observe<'a>(&mut self, groups: impl Iterator<Item = (u64, &'a [f64])>, end: u64) {
        let Some(order) = &self.observed else {
            return;
        };
        let samplers = &mut self.mixtures[0].samplers;
        let mut seen: Vec<Vec<Vec<f64>>> = samplers
            .iter()
            .map(|sampler| vec![Vec::new(); sampler.parts.len()])
            .collect();
        for (draw, rewards) in groups {
            if let Ok(at) = self.pending.binary_search_by_key(&draw, |(draw, ..)| *draw) {
                let (_, sampler, part) = self.pending[at];
                seen[sampler][part].push(spread::of_group(rewards));
            }
        }
        for (sampler, seen) in samplers.iter_mut().zip(seen) {
            for (part, seen) in sampler.parts.iter_mut().zip(seen) {
                part.spread = spread::after(part.spread, &seen, order.rate);
            }
        }
        self.pending.retain(|(draw, ..)| *draw >= end);
    }

    /// What the rewards observed so far say of each bucket; empty where rewards do not choose.
    pub fn spreads(&self) -> Vec<Spread> {
        let observed = self.observed.iter().flat_map(|_| self.parts());
        observed
            .filter_map(|(stream, part)| {
                Some(Spread {
                    stream: self.streams[stream].name.clone(),
                    bucket: part.bucket?,
                    mean: part.spread?,
                })
            })
            .collect()
    }

    /// The bad rows passed over since this was last asked.
    pub fn take_skipped(&mut self) -> Vec<SkippedRow> {
        std::mem::take(&mut self.skipped)
    }

    /// What has to be stored to go on from here.
    pub fn state(&self) -> CursorState {
        let state = |(stream, part): (usize, &Part)| {
            let state = StreamState {
                drawn: part.drawn,
                rows: part.rows as u64,
                spread: part.spread,
            };
            (self.name(stream, part), state)
        };
        CursorState {
            draws: self.draws,
            streams: self.parts().map(state).collect(),
            pending: self.pending.clone(),
        }
    }

    /// Goes to a stored place.
    ///
    /// # Errors
    /// The stored streams are not this config's, by name or by size.
    pub fn restore(&mut self, state: &CursorState) -> Result<(), DataError> {
        let ours: Vec<(String, usize)> = self
            .parts()
            .map(|(stream, part)| (self.name(stream, part), part.rows))
            .collect();
        if state.streams.len() != ours.len() {
            let stored: Vec<_> = state.streams.keys().collect();
            let ours: Vec<_> = ours.iter().map(|(name, _)| name).collect();
            return Err(DataError::State(format!(
                "it holds {stored:?}, the config gives {ours:?}"
            )));
        }
        let mut stored = Vec::with_capacity(ours.len());
        for (name, rows) in &ours {
            match state.streams.get(name) {
                Some(found) if found.rows == *rows as u64 => stored.push(*found),
                Some(found) => {
                    return Err(DataError::State(format!(
                        "`{name}` had {} rows and now has {rows}",
                        found.rows
                    )));
                }
                None => return Err(DataError::State(format!("`{name}` is not in it"))),
            }
        }
        let known = |(_, sampler, part): &(u64, usize, usize)| {
            let samplers = self.mixtures.first().map(|mixture| &mixture.samplers);
            let sampler = samplers.and_then(|samplers| samplers.get(*sampler));
            sampler.is_some_and(|sampler| *part < sampler.parts.len())
        };
        if !state.pending.iter().all(known) {
            return Err(DataError::State(
                "it waits for rewards of draws that no bucket has".into(),
            ));
        }
        let samplers = self
            .mixtures
            .iter_mut()
            .flat_map(|mixture| &mut mixture.samplers);
        for (part, stored) in samplers.flat_map(|sampler| &mut sampler.parts).zip(stored) {
            (part.drawn, part.spread) = (stored.drawn, stored.spread);
        }
        self.draws = state.draws;
        self.pending.clone_from(&state.pending);
        Ok(())
    }

    /// The mixture that the next draw belongs to.
    fn mixture(&self) -> usize {
        let on = self.mixtures.iter().position(Mixture::goes_on);
        on.unwrap_or(self.mixtures.len() - 1)
    }

    /// Every part with its stream, in the order of the mixtures.
    fn parts(&self) -> impl Iterator<Item = (usize, &Part)> {
        let samplers = self.mixtures.iter().flat_map(|mixture| &mixture.samplers);
        samplers.flat_map(|sampler| sampler.parts.iter().map(|part| (sampler.stream, part)))
    }

    fn name(&self, stream: usize, part: &Part) -> String {
        let stream = &self.streams[stream].name;
        match part.bucket {
            Some(bucket) => format!("{stream}, bucket {bucket}"),
            None => stream.clone(),
        }
    }
}
