//! Random numbers and permutations that are functions of their keys: no state to store.
//!
//! The mixer is SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014). A permutation of
//! `0..n` is a four-round Feistel network over the next even number of bits, walked until
//! it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

/// One 64-bit value from several, well mixed.
pub(crate) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x243f_6a88_85a3_08d3, |state, word| {
        finalise(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ finalise(*word))
    })
}

fn finalise(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A key of a name, for [`mix`].
pub(crate) fn name_key(name: &str) -> u64 {
    name.bytes()
        .fold(0, |state, byte| finalise(state ^ u64::from(byte)))
}

/// The stream of random numbers that belongs to one key.
pub(crate) struct Stream {
    key: u64,
    count: u64,
}

impl Stream {
    /// The stream of these words.
    pub(crate) fn new(words: &[u64]) -> Self {
        Self {
            key: mix(words),
            count: 0,
        }
    }

    fn word(&mut self) -> u64 {
        self.count += 1;
        mix(&[self.key, self.count])
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[-limit, limit)`.
    pub(crate) fn within(&mut self, limit: f64) -> f64 {
        (2.0 * self.unit() - 1.0) * limit
    }

    /// Uniform in `0..n`; `n >= 1`. The bias of the multiplication is below n / 2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.word()) * n as u128) >> 64) as usize
    }

    /// One element of `choices`, which is not empty.
    pub(crate) fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Where position `at` of `0..n` goes in the permutation of `key`; `at < n`.
pub(crate) fn permuted(at: usize, n: usize, key: u64) -> usize {
    debug_assert!(at < n);
    let bits = usize::BITS - (n - 1).leading_zeros();
    let half = bits.div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let mut value = at as u64;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (mix(&[key, round, right]) & mask));
        }
        value = (left << half) | right;
        if (value as usize) < n {
            return value as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_hits_every_place_once() {
        for n in [1, 2, 3, 7, 64, 65, 1000] {
            let mut seen = vec![false; n];
            for at in 0..n {
                let to = permuted(at, n, 42);
                assert!(!seen[to], "{to} twice of {n}");
                seen[to] = true;
            }
        }
    }

    #[test]
    fn permutations_of_two_keys_agree_as_rarely_as_chance() {
        let n = 1000;
        let same = (0..n)
            .filter(|&at| permuted(at, n, 1) == permuted(at, n, 2))
            .count();
        assert!(same < 10, "{same} fixed points, 1 expected");
    }

    #[test]
    fn uniform_numbers_have_the_right_mean() {
        let mut stream = Stream::new(&[7]);
        let mean = (0..10_000).map(|_| stream.unit()).sum::<f64>() / 10_000.0;
        // Standard error 0.0029.
        assert!((mean - 0.5).abs() < 0.012, "{mean}");
    }
}
