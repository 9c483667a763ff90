//! A bounded map from content to what was computed from it, the least recently used leaving first.
//! A value is computed once even when several threads ask for it at the same time.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A digest of content.
pub(crate) type Key = [u8; 32];

/// The digest of a list of parts; their borders count.
pub(crate) fn key(parts: &[&[u8]]) -> Key {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

pub(crate) struct Cache<V> {
    capacity: usize,
    state: Mutex<CacheState<V>>,
}

struct CacheState<V> {
    clock: u64,
    entries: HashMap<Key, (u64, Arc<OnceLock<V>>)>,
}

impl<V: Clone> Cache<V> {
    pub fn new(capacity: usize) -> Self {
        Cache {
            capacity,
            state: Mutex::new(CacheState {
                clock: 0,
                entries: HashMap::new(),
            }),
        }
    }

    pub fn get(&self, key: Key, compute: impl FnOnce() -> V) -> V {
        let cell = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.clock += 1;
            let now = state.clock;
            if !state.entries.contains_key(&key) && state.entries.len() >= self.capacity {
                state.drop_oldest(self.capacity);
            }
            let entry = state.entries.entry(key).or_default();
            entry.0 = now;
            entry.1.clone()
        };
        cell.get_or_init(compute).clone()
    }
}

impl<V: Clone> Cache<V> {
    /// [`Self::get`], but what does not last is computed again for the next who asks.
    pub fn get_lasting(
        &self,
        key: Key,
        compute: impl FnOnce() -> V,
        lasts: impl FnOnce(&V) -> bool,
    ) -> V {
        let value = self.get(key, compute);
        if !lasts(&value) {
            self.remove(&key);
        }
        value
    }

    /// Forgets a value.
    pub fn remove(&self, key: &Key) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entries.remove(key);
    }
}

impl<V> CacheState<V> {
    /// Drops the older eighth at once, so that the search for it is rare.
    fn drop_oldest(&mut self, capacity: usize) {
        let mut ages: Vec<u64> = self.entries.values().map(|e| e.0).collect();
        ages.sort_unstable();
        let limit = ages[(capacity / 8).min(ages.len() - 1)];
        self.entries.retain(|_, entry| entry.0 > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_computed_once_until_it_is_the_oldest() {
        let cache = Cache::new(2);
        let mut runs = 0;
        let mut ask = |name: &str| {
            cache.get(key(&[name.as_bytes()]), || runs += 1);
            runs
        };
        assert_eq!((ask("a"), ask("a"), ask("b"), ask("a")), (1, 1, 2, 2));
        assert_eq!(ask("c"), 3);
        assert_eq!((ask("a"), ask("b")), (3, 4));
    }

    #[test]
    fn what_does_not_last_is_computed_again() {
        let cache = Cache::new(2);
        let ask = |value: i32| cache.get_lasting(key(&[b"a"]), || value, |&value| value > 0);
        assert_eq!([ask(-1), ask(2), ask(3)], [-1, 2, 2]);
    }

    #[test]
    fn borders_of_parts_count() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
    }
}
