//! What a policy and its training hold on a device, in bytes: the plan's figures, by formula.
//!
//! Left out: activations and the caches of decoding, which depend on the batch; the alignment gaps of the flat
//! buffers, at most 15 elements for each parameter, and of shares, as many for each unit; the copy of one unit while
//! stages 1 and 2 bring updated weights together.

use models::{Component, DecoderConfig, EMBEDDING_UNIT, FIRST_BLOCK_UNIT, TOWER_UNIT};

use crate::config::{Dtype, ShardingConfig};
use crate::learn::shares::part_of;

/// Bytes of one rank by what they are for. A frozen parameter counts among the weights alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingMemory {
    /// All parameters, or with sharded weights the rank's share of what learns and all that is frozen.
    pub weights: i64,
    /// Gradients of what learns, and in bfloat16 their float32 sum; sharded, the sum of the rank's share alone.
    pub gradients: i64,
    /// Both moments of what learns, and in bfloat16 its float32 master weights, or the rank's share of them. On the
    /// host when they are kept there.
    pub optimizer: i64,
    /// The most that is there at once of what comes and goes by units.
    pub moving: i64,
}

impl TrainingMemory {
    /// For a policy of this shape on one rank that shares nothing, `frozen` parts of which do not learn.
    pub fn of(shape: &DecoderConfig, frozen: &[Component], dtype: Dtype) -> Self {
        Self::of_rank(
            shape,
            &Learning::of(shape, frozen, dtype),
            (&ShardingConfig::default(), 1),
        )
    }

    /// The same for one of `world` ranks that share what `sharding` says, of a policy of which `learning` learns.
    pub fn of_rank(
        shape: &DecoderConfig,
        learning: &Learning,
        (sharding, world): (&ShardingConfig, usize),
    ) -> Self {
        let Learning {
            units,
            width,
            stays,
        } = learning;
        let (stage, learn) = (sharding.stage, learning.parameters());
        let parts: Vec<i64> = units.iter().map(|unit| part_of(*unit, world)).collect();
        let share: i64 = parts.iter().sum();
        let of_optimizer = if stage >= 1 { share } else { learn };
        // A narrower kind has a float32 sum of gradients, and float32 master weights.
        let wide = if *width == 4 { 0 } else { 4 };
        let moving = UnitMoves {
            units: parts,
            world: world as i64,
            width: *width,
            weights: stage >= 3,
            ..UnitMoves::default()
        };
        Self {
            weights: match stage {
                3 => stays + width * share,
                _ => stays + width * learn,
            },
            gradients: match stage {
                0 | 1 => (width + wide) * learn,
                _ => 4 * share,
            },
            optimizer: (8 + wide) * of_optimizer,
            moving: match stage {
                0 | 1 => 0,
                _ => moving.peak(shape),
            },
        }
    }

    /// All of them.
    pub fn total(&self) -> i64 {
        self.weights + self.gradients + self.optimizer + self.moving
    }
}

/// What of a policy learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learning {
    /// Numbers that learn, of each unit.
    units: Vec<i64>,
    /// Bytes of each of them.
    width: i64,
    /// Bytes of the weights that stay as they are.
    stays: i64,
}

impl Learning {
    /// All but the parts `frozen`.
    pub fn of(shape: &DecoderConfig, frozen: &[Component], dtype: Dtype) -> Self {
        let width = width(dtype);
        let learn = shape.parameters_without(frozen);
        Self {
            units: shape.unit_sizes(frozen),
            width,
            stays: width * (shape.parameters() - learn),
        }
    }

    /// Adapters, so many numbers of each unit, beside all weights; they are float32, and so have neither a sum of
    /// gradients nor master weights of their own.
    pub fn adapters(shape: &DecoderConfig, units: Vec<i64>, dtype: Dtype) -> Self {
        Self {
            units,
            width: 4,
            stays: width(dtype) * shape.parameters(),
        }
    }

    /// How many numbers learn.
    pub fn parameters(&self) -> i64 {
        self.units.iter().sum()
    }

    /// Bytes of all weights that learn, as they are while completions are sampled.
    pub fn gathered(&self) -> i64 {
        self.width * self.parameters()
    }

    /// Bytes of the weights that stay as they are.
    pub fn stays(&self) -> i64 {
        self.stays
    }
}

fn width(dtype: Dtype) -> i64 {
    match dtype {
        Dtype::Float32 => 4,
        Dtype::Bfloat16 => 2,
    }
}

/// The comings and goings of units in a pass of learning, counted.
#[derive(Debug, Default)]
struct UnitMoves {
    /// Elements of a rank's part of each unit.
    units: Vec<i64>,
    world: i64,
    /// Bytes of a weight.
    width: i64,
    /// Whether weights come and go too.
    weights: bool,
    now: i64,
    most: i64,
    /// Bytes that go when the gradients on their way have arrived.
    going: i64,
    /// Of weights that were brought ahead.
    ahead: i64,
}

impl UnitMoves {
    fn add(&mut self, bytes: i64) {
        self.now += bytes;
        self.most = self.most.max(self.now);
    }

    fn whole(&self, unit: usize) -> i64 {
        self.units[unit] * self.world * self.width
    }

    /// A unit's weights and those of the next one.
    fn use_weights(&mut self, unit: usize, next: Option<usize>) {
        if self.weights {
            let next = next.map_or(0, |next| self.whole(next));
            self.add(self.whole(unit) - self.ahead + next);
            self.add(-self.whole(unit));
            self.ahead = next;
        }
    }

    fn room(&mut self, unit: usize) {
        self.add(self.whole(unit));
    }

    /// The gradients of a unit are on their way: in bfloat16 a float32 copy is.
    fn ready(&mut self, unit: usize) {
        self.add(-self.going);
        let (part, whole) = (4 * self.units[unit], self.whole(unit));
        let copy = if self.width == 4 { 0 } else { 2 * whole };
        self.add(part + copy);
        self.going = part + copy;
        match copy {
            0 => self.going += whole,
            _ => self.add(-whole),
        }
    }

    /// The most bytes of one pass.
    fn peak(mut self, shape: &DecoderConfig) -> i64 {
        if self.weights {
            self.add(self.whole(TOWER_UNIT));
        }
        let (norm, head) = (shape.norm_unit(), shape.head_unit());
        self.use_weights(EMBEDDING_UNIT, Some(FIRST_BLOCK_UNIT));
        for unit in FIRST_BLOCK_UNIT..norm {
            self.use_weights(unit, Some(unit + 1));
        }
        self.room(head);
        self.use_weights(head, None);
        if head != EMBEDDING_UNIT {
            self.ready(head);
        }
        for unit in (FIRST_BLOCK_UNIT..=norm).rev() {
            self.room(unit);
            self.use_weights(unit, Some(unit - 1).filter(|it| *it >= FIRST_BLOCK_UNIT));
            self.ready(unit);
        }
        if head != EMBEDDING_UNIT {
            self.room(EMBEDDING_UNIT);
        }
        self.ready(EMBEDDING_UNIT);
        self.room(TOWER_UNIT);
        self.ready(TOWER_UNIT);
        self.most
    }
}
