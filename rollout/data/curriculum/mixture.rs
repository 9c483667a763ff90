//! A stretch of a stage with one mixture: which stream, and which part of it, the next draw goes to.

use super::spread;
use super::stream::{DataStream, Part};
use crate::data::catalog::Catalog;
use crate::data::error::DataError;
use crate::data::order::{BucketedOrder, CurriculumConfig, ObservedOrder, Order, PlainOrder, Then};
use crate::data::shuffle::Stream;

/// A stretch of a stage.
#[derive(Debug, Clone)]
pub(super) struct Mixture {
    pub(super) samplers: Vec<StreamSampler>,
    /// Draws after which the next mixture begins; the last one has no end.
    pub(super) until: Option<u64>,
}

/// A stream as a mixture draws from it.
#[derive(Debug, Clone)]
pub(super) struct StreamSampler {
    /// Which stream.
    pub(super) stream: usize,
    /// Share in the mixture's draws; all samplers' sum to 1.
    share: f64,
    /// What is drawn from; several where the rewards choose.
    pub(super) parts: Vec<Part>,
}

impl Mixture {
    /// The mixtures of a curriculum over `streams`, which are sorted where it needs that.
    pub(super) fn of(
        config: &CurriculumConfig,
        streams: &[DataStream],
        catalog: &Catalog,
    ) -> Result<Vec<Self>, DataError> {
        let whole = |order: PlainOrder| {
            let parts = streams.iter().map(|stream| vec![stream.whole(order)]);
            Self::mixed(streams, parts.collect(), None)
        };
        let (buckets, staged) = match &config.order {
            Order::Plain(order) => return Ok(vec![whole(*order)]),
            Order::Bucketed(BucketedOrder::Staged(staged)) => (&staged.buckets, Some(staged)),
            Order::Bucketed(BucketedOrder::Observed(observed)) => (&observed.buckets, None),
        };
        let parts: Vec<Vec<Part>> = streams
            .iter()
            .map(|stream| stream.buckets(catalog, buckets))
            .collect();
        let of_bucket = |bucket: usize| -> Vec<Vec<Part>> {
            let of = |parts: &Vec<Part>| {
                let found = parts.iter().filter(|part| part.bucket == Some(bucket));
                found.cloned().collect()
            };
            parts.iter().map(of).collect()
        };
        let mut mixtures = Vec::new();
        for bucket in 1..=buckets.count() {
            let parts = of_bucket(bucket);
            let rows: usize = parts.iter().flatten().map(|part| part.rows).sum();
            if rows == 0 {
                return Err(DataError::config(
                    "curriculum.order.buckets",
                    format!(
                        "bucket {bucket} holds no row of any task; choose other bounds or fewer buckets"
                    ),
                ));
            }
            let draws = staged.and_then(|staged| staged.draws.get(bucket - 1).copied());
            let until = Some(draws.unwrap_or(rows as u64));
            mixtures.push(Self::mixed(streams, parts, until));
        }
        match staged.map(|staged| staged.then) {
            None => return Ok(vec![Self::mixed(streams, parts, None)]),
            Some(Then::All) => mixtures.push(whole(PlainOrder::Shuffled)),
            Some(Then::Last) => {
                if let Some(last) = mixtures.last_mut() {
                    last.until = None;
                }
            }
        }
        Ok(mixtures)
    }

    /// Lanes of the streams that have a part, their shares by weight or by rows.
    fn mixed(streams: &[DataStream], parts: Vec<Vec<Part>>, until: Option<u64>) -> Self {
        let mut samplers: Vec<StreamSampler> = parts
            .into_iter()
            .enumerate()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(stream, parts)| {
                let rows: usize = parts.iter().map(|part| part.rows).sum();
                StreamSampler {
                    stream,
                    share: streams[stream].weight.unwrap_or(rows as f64),
                    parts,
                }
            })
            .collect();
        let total: f64 = samplers.iter().map(|sampler| sampler.share).sum();
        samplers
            .iter_mut()
            .for_each(|sampler| sampler.share /= total);
        Self { samplers, until }
    }

    /// Draws made in it.
    pub(super) fn draws(&self) -> u64 {
        self.samplers.iter().map(StreamSampler::drawn).sum()
    }

    /// Whether another draw belongs to it.
    pub(super) fn goes_on(&self) -> bool {
        self.until.is_none_or(|until| self.draws() < until)
    }

    /// Lane and part of the next draw: the sampler that lacks most of its share once one more draw is
    /// made, and where it has several parts the one that chance and their spreads choose.
    pub(super) fn next(
        &self,
        streams: &[DataStream],
        observed: Option<&ObservedOrder>,
    ) -> (usize, usize) {
        let after = (self.draws() + 1) as f64;
        let mut best = (0, f64::NEG_INFINITY);
        for (index, sampler) in self.samplers.iter().enumerate() {
            let lack = after * sampler.share - sampler.drawn() as f64;
            if lack > best.1 {
                best = (index, lack);
            }
        }
        let sampler = &self.samplers[best.0];
        let part = observed.map_or(0, |observed| {
            let parts: Vec<(usize, Option<f64>)> = sampler
                .parts
                .iter()
                .map(|part| (part.rows, part.spread))
                .collect();
            let mut chance = Stream::new(&[streams[sampler.stream].key(), BUCKET, sampler.drawn()]);
            spread::choose(&spread::shares(&parts, observed), chance.unit())
        });
        (best.0, part)
    }
}

/// Sets the choice of a bucket apart from other uses of a stream's key.
const BUCKET: u64 = 0x6275_636b_6574;

impl StreamSampler {
    fn drawn(&self) -> u64 {
        self.parts.iter().map(|part| part.drawn).sum()
    }
}
