//! Which part of what learns each rank answers for (ZeRO, Rajbhandari et al. 2019, arXiv 1910.02054).
//!
//! Every unit of the trainable buffer is cut into as many equal parts as there are ranks, the last ones shorter or
//! empty; a rank's share is its part of each unit, one after the other. So each unit can be gathered and its
//! gradients scattered alone, and ranges may begin and end within a leaf.

use std::ops::Range;

use models::ParamTable;

/// Elements to which a part's length is rounded up: 64 bytes in float32.
const ALIGN: i64 = 16;

/// Elements of each rank's part of `len`.
pub fn part_of(len: i64, world: usize) -> i64 {
    let world = world as i64;
    let part = (len + world - 1) / world;
    (part + ALIGN - 1) / ALIGN * ALIGN
}

/// One unit, cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitShare {
    /// Its first element in the trainable buffer.
    pub start: i64,
    /// Its elements.
    pub len: i64,
    /// Elements of each rank's part, those past the unit's end included.
    pub part: i64,
    /// Where a rank's part begins in its share.
    pub local: i64,
}

/// A stretch that lies in one place of the trainable buffer and in another of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Its first element in the trainable buffer.
    pub start: i64,
    /// Its first element in the share.
    pub local: i64,
    /// Its elements.
    pub len: i64,
}

impl Stretch {
    /// What of it lies in `range` of the trainable buffer.
    pub fn within(&self, range: &Range<i64>) -> Option<Self> {
        let start = self.start.max(range.start);
        let end = (self.start + self.len).min(range.end);
        (start < end).then(|| Self {
            start,
            local: self.local + start - self.start,
            len: end - start,
        })
    }
}

/// The shares of all ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardLayout {
    units: Vec<UnitShare>,
    rank: usize,
    world: usize,
    len: i64,
}

impl ShardLayout {
    /// The shares of `world` ranks in `units`, ranges of the trainable buffer, as rank `rank` sees them.
    pub fn new(units: &[Range<i64>], (rank, world): (usize, usize)) -> Self {
        let mut len = 0;
        let units = units.iter().map(|unit| {
            let share = UnitShare {
                start: unit.start,
                len: unit.end - unit.start,
                part: part_of(unit.end - unit.start, world),
                local: len,
            };
            len += share.part;
            share
        });
        Self {
            units: units.collect(),
            rank,
            world,
            len,
        }
    }

    /// All of a trainable buffer of `len`, on every rank.
    pub fn whole(len: i64) -> Self {
        Self {
            units: vec![UnitShare {
                start: 0,
                len,
                part: len,
                local: 0,
            }],
            rank: 0,
            world: 1,
            len,
        }
    }

    /// The units, as they lie in every rank's share.
    pub fn units(&self) -> &[UnitShare] {
        &self.units
    }

    /// How many ranks share.
    pub fn world(&self) -> usize {
        self.world
    }

    /// Elements of a rank's share, those past the units' ends included; the same on every rank.
    pub fn share(&self) -> i64 {
        self.len
    }

    /// The elements of a share up to the last that belongs to anything; for one rank those of the trainable buffer,
    /// as which its share is laid out.
    pub fn used(&self) -> i64 {
        let ends = self.units.iter().filter(|unit| unit.len > 0);
        ends.map(|unit| unit.local + unit.len.min(unit.part))
            .max()
            .unwrap_or(0)
    }

    /// What lies in the share of `rank`.
    pub fn stretches_of(&self, rank: usize) -> impl Iterator<Item = Stretch> {
        let stretch = move |unit: &UnitShare| {
            let own = rank as i64 * unit.part;
            let len = unit.part.min(unit.len - own);
            (len > 0).then_some(Stretch {
                start: unit.start + own,
                local: unit.local,
                len,
            })
        };
        self.units.iter().filter_map(stretch)
    }

    /// What lies in this rank's share.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> {
        self.stretches_of(self.rank)
    }

    /// This rank's part of every leaf that learns, and whether weight decay applies to it.
    pub fn leaf_parts(&self, params: &ParamTable) -> Vec<(Stretch, bool)> {
        let mut out = Vec::new();
        for leaf in params.leaves().iter().filter(|leaf| leaf.trains()) {
            let range = leaf.offset..leaf.offset + leaf.numel();
            let parts = self.stretches();
            out.extend(parts.filter_map(|own| Some((own.within(&range)?, leaf.decay))));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_every_unit_once() {
        let units = [0..0, 0..100, 112..113, 128..1000];
        for world in [1, 2, 3, 4, 7] {
            let mut owners = vec![0; 1000];
            for rank in 0..world {
                let layout = ShardLayout::new(&units, (rank, world));
                let mut used = vec![false; layout.share() as usize];
                for stretch in layout.stretches() {
                    for at in 0..stretch.len {
                        owners[(stretch.start + at) as usize] += 1;
                        assert!(!std::mem::replace(
                            &mut used[(stretch.local + at) as usize],
                            true
                        ));
                    }
                }
                let numbers: i64 = units.iter().map(|unit| unit.end - unit.start).sum();
                let even = numbers / world as i64;
                let most = even + 16 * units.len() as i64;
                assert!((even..=most).contains(&layout.share()), "{world}");
            }
            let inside = |at: usize| units.iter().any(|unit| unit.contains(&(at as i64)));
            let expected: Vec<i32> = (0..1000).map(|at| i32::from(inside(at))).collect();
            assert_eq!(owners, expected, "{world} ranks");
        }
    }

    #[test]
    fn one_rank_s_share_is_laid_out_as_the_trainable_buffer() {
        // Units begin at multiples of sixteen, as leaves do.
        let layout = ShardLayout::new(&[0..100, 0..0, 112..113, 128..1001], (0, 1));
        assert!(layout.stretches().all(|own| own.local == own.start));
        assert_eq!((layout.used(), layout.share()), (1001, 1008));
        assert_eq!(ShardLayout::whole(1001).used(), 1001);
    }

    #[test]
    fn a_stretch_is_cut_at_a_ranges_ends() {
        let stretch = Stretch {
            start: 10,
            local: 100,
            len: 20,
        };
        let cut = |range| {
            stretch
                .within(&range)
                .map(|cut| (cut.start, cut.local, cut.len))
        };
        assert_eq!(cut(0..100), Some((10, 100, 20)));
        assert_eq!(cut(15..18), Some((15, 105, 3)));
        assert_eq!(cut(25..40), Some((25, 115, 5)));
        assert_eq!(cut(0..10), None);
    }
}
