//! Counter-based random numbers: a number is a function of its key, never of what was drawn
//! before it. Mixing is that of SplitMix64 (Steele, Lea, Flood 2014).

/// Mixes two words into one; each output bit depends on every input bit.
pub fn mix(state: u64, word: u64) -> u64 {
    let mut z =
        (state ^ word.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of one completion's random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawKey {
    key: u64,
}

impl DrawKey {
    /// For completion `sample` of the `draw`-th prompt of a run with `seed`.
    pub fn new(seed: u64, draw: u64, sample: u64) -> Self {
        Self {
            key: mix(mix(mix(0x5356_4752_4c00_0000, seed), draw), sample),
        }
    }

    /// One word of its own, for whoever draws elsewhere.
    pub fn word(&self) -> u64 {
        mix(self.key, 0x7365_7276_6572)
    }

    /// The uniform number in [0, 1) of token `position` of the completion.
    pub fn uniform(&self, position: u64) -> f64 {
        (mix(mix(self.key, position), 0x0074_6f6b_656e) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniforms_are_even_and_differ_by_every_part_of_the_key() {
        let draw = DrawKey::new(1, 2, 3);
        let mean = (0..100_000).map(|i| draw.uniform(i)).sum::<f64>() / 100_000.0;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let of = |seed, draw, sample| DrawKey::new(seed, draw, sample).uniform(0);
        assert!(
            of(1, 2, 3) != of(2, 2, 3) && of(1, 2, 3) != of(1, 3, 3) && of(1, 2, 3) != of(1, 2, 4)
        );
        assert_ne!(DrawKey::new(1, 2, 3), DrawKey::new(1, 3, 2));
    }
}
