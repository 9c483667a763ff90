//! A stretch of a stage with one mixture: which strand, and which part of it, the next draw goes to.

use super::spread;
use super::strand::{Part, Strand};
use crate::data::catalog::Catalog;
use crate::data::error::DataError;
use crate::data::order::{BucketedOrder, CurriculumConfig, ObservedOrder, Order, PlainOrder, Then};
use crate::data::shuffle::Stream;

/// A stretch of a stage.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    pub(super) lanes: Vec<Lane>,
    /// Draws after which the next phase begins; the last one has no end.
    pub(super) until: Option<u64>,
}

/// A strand as a phase draws from it.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// Which strand.
    pub(super) strand: usize,
    /// Share in the phase's draws; all lanes' sum to 1.
    share: f64,
    /// What is drawn from; several where the rewards choose.
    pub(super) parts: Vec<Part>,
}

impl Phase {
    /// The phases of a curriculum over `strands`, which are sorted where it needs that.
    pub(super) fn of(
        config: &CurriculumConfig,
        strands: &[Strand],
        catalog: &Catalog,
    ) -> Result<Vec<Self>, DataError> {
        let whole = |order: PlainOrder| {
            let parts = strands.iter().map(|strand| vec![strand.whole(order)]);
            Self::mixed(strands, parts.collect(), None)
        };
        let (buckets, staged) = match &config.order {
            Order::Plain(order) => return Ok(vec![whole(*order)]),
            Order::Bucketed(BucketedOrder::Staged(staged)) => (&staged.buckets, Some(staged)),
            Order::Bucketed(BucketedOrder::Observed(observed)) => (&observed.buckets, None),
        };
        let parts: Vec<Vec<Part>> = strands
            .iter()
            .map(|strand| strand.buckets(catalog, buckets))
            .collect();
        let of_bucket = |bucket: usize| -> Vec<Vec<Part>> {
            let of = |parts: &Vec<Part>| {
                let found = parts.iter().filter(|part| part.bucket == Some(bucket));
                found.cloned().collect()
            };
            parts.iter().map(of).collect()
        };
        let mut phases = Vec::new();
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
            phases.push(Self::mixed(strands, parts, until));
        }
        match staged.map(|staged| staged.then) {
            None => return Ok(vec![Self::mixed(strands, parts, None)]),
            Some(Then::All) => phases.push(whole(PlainOrder::Shuffled)),
            Some(Then::Last) => {
                if let Some(last) = phases.last_mut() {
                    last.until = None;
                }
            }
        }
        Ok(phases)
    }

    /// Lanes of the strands that have a part, their shares by weight or by rows.
    fn mixed(strands: &[Strand], parts: Vec<Vec<Part>>, until: Option<u64>) -> Self {
        let mut lanes: Vec<Lane> = parts
            .into_iter()
            .enumerate()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(strand, parts)| {
                let rows: usize = parts.iter().map(|part| part.rows).sum();
                Lane {
                    strand,
                    share: strands[strand].weight.unwrap_or(rows as f64),
                    parts,
                }
            })
            .collect();
        let total: f64 = lanes.iter().map(|lane| lane.share).sum();
        lanes.iter_mut().for_each(|lane| lane.share /= total);
        Self { lanes, until }
    }

    /// Draws made in it.
    pub(super) fn draws(&self) -> u64 {
        self.lanes.iter().map(Lane::drawn).sum()
    }

    /// Whether another draw belongs to it.
    pub(super) fn goes_on(&self) -> bool {
        self.until.is_none_or(|until| self.draws() < until)
    }

    /// Lane and part of the next draw: the lane that lacks most of its share once one more draw is
    /// made, and where it has several parts the one that chance and their spreads choose.
    pub(super) fn next(
        &self,
        strands: &[Strand],
        observed: Option<&ObservedOrder>,
    ) -> (usize, usize) {
        let after = (self.draws() + 1) as f64;
        let mut best = (0, f64::NEG_INFINITY);
        for (index, lane) in self.lanes.iter().enumerate() {
            let lack = after * lane.share - lane.drawn() as f64;
            if lack > best.1 {
                best = (index, lack);
            }
        }
        let lane = &self.lanes[best.0];
        let part = observed.map_or(0, |observed| {
            let parts: Vec<(usize, Option<f64>)> = lane
                .parts
                .iter()
                .map(|part| (part.rows, part.spread))
                .collect();
            let mut chance = Stream::new(&[strands[lane.strand].key(), BUCKET, lane.drawn()]);
            spread::choose(&spread::shares(&parts, observed), chance.unit())
        });
        (best.0, part)
    }
}

/// Sets the choice of a bucket apart from other uses of a strand's key.
const BUCKET: u64 = 0x6275_636b_6574;

impl Lane {
    fn drawn(&self) -> u64 {
        self.parts.iter().map(|part| part.drawn).sum()
    }
}
