//! Rows that were there before: the same text, or a picture that looks alike.
//!
//! Of each kept row stay 16 bytes of its text's digest and, when near duplicates are asked for, its hash
//! and its places in one list for each of `distance + 1` slices of the hash: two hashes that differ
//! in `distance` bits agree in a slice at least.

use std::collections::{HashMap, HashSet};

use super::perceptual_hash::PerceptualHash;

/// What was kept so far.
pub struct DuplicateIndex {
    texts: HashSet<u128>,
    near: Option<NearIndex>,
}

struct NearIndex {
    distance: u32,
    hashes: Vec<PerceptualHash>,
    /// Rows by slice number and the slice's bits.
    slices: HashMap<(u32, u64), Vec<u32>>,
}

/// Why a row is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicate {
    /// The same text after normalising.
    Same,
    /// A picture like this one.
    Alike,
}

impl DuplicateIndex {
    /// `distance`: bits in which the hashes of alike pictures differ at most; none: not asked.
    pub fn new(distance: Option<u32>) -> Self {
        Self {
            texts: HashSet::new(),
            near: distance.map(|distance| NearIndex {
                distance,
                hashes: Vec::new(),
                slices: HashMap::new(),
            }),
        }
    }

    /// Keeps a row, or says why it is not new.
    pub fn add(&mut self, digest: u128, hash: &PerceptualHash) -> Option<Duplicate> {
        if self.texts.contains(&digest) {
            return Some(Duplicate::Same);
        }
        if let Some(near) = &mut self.near
            && !near.add(hash)
        {
            return Some(Duplicate::Alike);
        }
        self.texts.insert(digest);
        None
    }
}

impl NearIndex {
    fn add(&mut self, hash: &PerceptualHash) -> bool {
        let count = self.distance + 1;
        let width = 64u32.div_ceil(count);
        let keys: Vec<(u32, u64)> = (0..count)
            .map(|slice| {
                let shifted = hash.bits.checked_shr(slice * width).unwrap_or(0);
                let mask = u64::MAX >> (64 - width);
                (slice, shifted & mask)
            })
            .collect();
        let known = keys.iter().any(|key| {
            let mut rows = self.slices.get(key).into_iter().flatten();
            rows.any(|row| self.hashes[*row as usize].is_near(hash, self.distance))
        });
        if known {
            return false;
        }
        let row = u32::try_from(self.hashes.len()).unwrap_or(u32::MAX);
        self.hashes.push(*hash);
        for key in keys {
            self.slices.entry(key).or_default().push(row);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bits: u64) -> PerceptualHash {
        PerceptualHash {
            bits,
            colours: [0; 48],
        }
    }

    #[test]
    fn every_pair_within_the_distance_is_found() {
        for distance in 0..=5 {
            for bit in 0..64 {
                let mut kept = DuplicateIndex::new(Some(distance));
                assert_eq!(kept.add(0, &hash(0)), None);
                // Neighbouring bits and far ones, `distance` of them in all.
                let apart =
                    |count: u32| (0..count).fold(0, |h, i| h | 1u64 << ((bit + 13 * i) % 64));
                assert_eq!(kept.add(1, &hash(apart(distance))), Some(Duplicate::Alike));
                assert_eq!(kept.add(2, &hash(apart(distance + 1))), None);
            }
        }
    }

    #[test]
    fn the_same_text_is_found_without_a_hash() {
        let mut kept = DuplicateIndex::new(None);
        assert_eq!(kept.add(7, &hash(0)), None);
        assert_eq!(kept.add(8, &hash(0)), None);
        assert_eq!(kept.add(7, &hash(1)), Some(Duplicate::Same));
    }
}
