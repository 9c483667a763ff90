//! Rows that were there before: the same text, or a picture that looks alike.
//!
//! Of each kept row stay 16 bytes of its text's digest and, when likenesses are asked for, its likeness
//! and its places in one list for each of `distance + 1` slices of the hash: two hashes that differ
//! in `distance` bits agree in a slice at least.

use std::collections::{HashMap, HashSet};

use super::look::Likeness;

/// What was kept so far.
pub struct Kept {
    texts: HashSet<u128>,
    near: Option<Near>,
}

struct Near {
    distance: u32,
    looks: Vec<Likeness>,
    /// Rows by slice number and the slice's bits.
    slices: HashMap<(u32, u64), Vec<u32>>,
}

/// Why a row is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The same text after normalising.
    Same,
    /// A picture like this one.
    Alike,
}

impl Kept {
    /// `distance`: bits in which the hashes of alike pictures differ at most; none: not asked.
    pub fn new(distance: Option<u32>) -> Self {
        Self {
            texts: HashSet::new(),
            near: distance.map(|distance| Near {
                distance,
                looks: Vec::new(),
                slices: HashMap::new(),
            }),
        }
    }

    /// Keeps a row, or says why it is not new.
    pub fn add(&mut self, digest: u128, look: &Likeness) -> Option<Seen> {
        if self.texts.contains(&digest) {
            return Some(Seen::Same);
        }
        if let Some(near) = &mut self.near
            && !near.add(look)
        {
            return Some(Seen::Alike);
        }
        self.texts.insert(digest);
        None
    }
}

impl Near {
    fn add(&mut self, look: &Likeness) -> bool {
        let count = self.distance + 1;
        let width = 64u32.div_ceil(count);
        let keys: Vec<(u32, u64)> = (0..count)
            .map(|slice| {
                let shifted = look.hash.checked_shr(slice * width).unwrap_or(0);
                let mask = u64::MAX >> (64 - width);
                (slice, shifted & mask)
            })
            .collect();
        let known = keys.iter().any(|key| {
            let mut rows = self.slices.get(key).into_iter().flatten();
            rows.any(|row| self.looks[*row as usize].is_near(look, self.distance))
        });
        if known {
            return false;
        }
        let row = u32::try_from(self.looks.len()).unwrap_or(u32::MAX);
        self.looks.push(*look);
        for key in keys {
            self.slices.entry(key).or_default().push(row);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(hash: u64) -> Likeness {
        Likeness {
            hash,
            colours: [0; 48],
        }
    }

    #[test]
    fn every_pair_within_the_distance_is_found() {
        for distance in 0..=5 {
            for bit in 0..64 {
                let mut kept = Kept::new(Some(distance));
                assert_eq!(kept.add(0, &look(0)), None);
                // Neighbouring bits and far ones, `distance` of them in all.
                let apart =
                    |count: u32| (0..count).fold(0, |h, i| h | 1u64 << ((bit + 13 * i) % 64));
                assert_eq!(kept.add(1, &look(apart(distance))), Some(Seen::Alike));
                assert_eq!(kept.add(2, &look(apart(distance + 1))), None);
            }
        }
    }

    #[test]
    fn the_same_text_is_found_without_likeness() {
        let mut kept = Kept::new(None);
        assert_eq!(kept.add(7, &look(0)), None);
        assert_eq!(kept.add(8, &look(0)), None);
        assert_eq!(kept.add(7, &look(1)), Some(Seen::Same));
    }
}
