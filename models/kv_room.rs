//! Which pages of a cache are free: ranges of neighbours, the first that is large enough.

use std::collections::BTreeMap;

/// The pages `0..pages`, each free or taken.
#[derive(Debug)]
pub(crate) struct KvRoom {
    /// Free stretches: first page and how many, never two that touch.
    free: BTreeMap<i64, i64>,
    taken: i64,
    peak: i64,
}

impl KvRoom {
    /// `pages` that are all free.
    pub(crate) fn new(pages: i64) -> Self {
        Self {
            free: (pages > 0).then_some((0, pages)).into_iter().collect(),
            taken: 0,
            peak: 0,
        }
    }

    /// The first of `pages` neighbours, taken.
    pub(crate) fn take(&mut self, pages: i64) -> Option<i64> {
        let mut stretches = self.free.iter();
        let (&start, &len) = stretches.find(|(_, len)| **len >= pages)?;
        self.cut(start, len, pages);
        Some(start)
    }

    /// Takes `more` pages from `end` on, if these are free.
    pub(crate) fn take_at(&mut self, end: i64, more: i64) -> bool {
        match self.free.get(&end) {
            Some(&len) if len >= more => {
                self.cut(end, len, more);
                true
            }
            _ => false,
        }
    }

    fn cut(&mut self, start: i64, len: i64, pages: i64) {
        self.free.remove(&start);
        if len > pages {
            self.free.insert(start + pages, len - pages);
        }
        self.taken += pages;
        self.peak = self.peak.max(self.taken);
    }

    /// Gives `pages` from `start` on back.
    pub(crate) fn give(&mut self, start: i64, pages: i64) {
        let (mut from, mut len) = (start, pages);
        if let Some((&before, &count)) = self.free.range(..start).next_back()
            && before + count == start
        {
            self.free.remove(&before);
            (from, len) = (before, len + count);
        }
        if let Some(count) = self.free.remove(&(start + pages)) {
            len += count;
        }
        self.free.insert(from, len);
        self.taken -= pages;
    }

    /// How many are free.
    pub(crate) fn left(&self) -> i64 {
        self.free.values().sum()
    }

    /// The most that were taken at a time.
    pub(crate) fn peak(&self) -> i64 {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_whole_again() {
        let mut room = KvRoom::new(10);
        let (a, b, c) = (room.take(3), room.take(3), room.take(4));
        assert_eq!((a, b, c, room.take(1)), (Some(0), Some(3), Some(6), None));
        room.give(0, 3);
        room.give(6, 4);
        assert_eq!((room.left(), room.take(5)), (7, None));
        room.give(3, 3);
        assert_eq!((room.take(10), room.peak()), (Some(0), 10));
    }

    #[test]
    fn neighbours_are_taken_where_they_are_free() {
        let mut room = KvRoom::new(8);
        let start = room.take(2).unwrap();
        assert!(room.take_at(start + 2, 3));
        assert!(!room.take_at(start + 5, 4) && !room.take_at(start + 4, 1));
        assert!(room.take_at(start + 5, 3));
        assert_eq!(room.left(), 0);
    }
}
