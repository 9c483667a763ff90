//! Problems of rows by kind: the same sentence about other numbers, files and rows is one kind.

use std::collections::BTreeMap;

/// More kinds than this are counted as one.
const MOST_KINDS: usize = 50;
/// Characters of a kind's sentence.
const MOST_CHARACTERS: usize = 160;
const OTHER: &str = "other problems";

/// One kind of problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemKind {
    /// How many rows have it.
    pub count: u64,
    /// The first of them: place and sentence.
    pub first: String,
}

/// Problems and how many rows have them.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    kinds: BTreeMap<String, ProblemKind>,
}

impl Problems {
    /// Counts a row with its `place` (`file:line`, or an id).
    pub fn add(&mut self, place: &str, problem: &str) {
        let mut name = kind(problem);
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&name) {
            name = OTHER.to_owned();
        }
        let known = self.kinds.entry(name).or_insert_with(|| ProblemKind {
            count: 0,
            first: format!("{place}: {problem}"),
        });
        known.count += 1;
    }

    /// How many rows have a problem.
    pub fn total(&self) -> u64 {
        self.kinds.values().map(|kind| kind.count).sum()
    }

    /// The kinds, the most frequent first.
    pub fn kinds(&self) -> Vec<(&str, &ProblemKind)> {
        let mut kinds: Vec<(&str, &ProblemKind)> = self
            .kinds
            .iter()
            .map(|(name, kind)| (name.as_str(), kind))
            .collect();
        kinds.sort_by_key(|(name, kind)| (std::cmp::Reverse(kind.count), *name));
        kinds
    }

    /// A row of the most frequent kind.
    pub fn first(&self) -> Option<&str> {
        self.kinds().first().map(|(_, kind)| kind.first.as_str())
    }
}

/// The sentence without what differs from row to row: numbers, paths, control characters.
fn kind(problem: &str) -> String {
    let word = |word: &str| match word.contains('/') && !word.contains('<') {
        // What a path is wrapped in or followed by stays.
        true => match word.char_indices().next_back() {
            Some((at, last @ (':' | ',' | ';'))) if at > 0 => format!("…{last}"),
            _ => "…".to_owned(),
        },
        false => word.to_owned(),
    };
    let words: Vec<String> = problem.split_whitespace().map(word).collect();
    let mut out = String::new();
    for c in words.join(" ").chars().take(MOST_CHARACTERS) {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_that_differ_in_numbers_and_paths_are_one_kind() {
        let mut problems = Problems::default();
        problems.add("a:1", "image /x/1.png: No such file (os error 2)");
        problems.add("a:2", "image /y/2.png: No such file (os error 2)");
        problems.add("a:3", "key `svg` is missing");
        let kinds = problems.kinds();
        assert_eq!(kinds[0].0, "image …: No such file (os error #)");
        assert_eq!(kinds[0].1.count, 2);
        assert_eq!(
            problems.first(),
            Some("a:1: image /x/1.png: No such file (os error 2)")
        );
        assert_eq!(problems.total(), 3);
    }

    #[test]
    fn kinds_without_end_are_counted_as_one() {
        let mut problems = Problems::default();
        for row in 0..26 * 26 {
            let letter = |n: u8| char::from(b'a' + n);
            let (a, b) = (letter((row / 26) as u8), letter((row % 26) as u8));
            problems.add("x", &format!("{a}{b}"));
        }
        assert_eq!(problems.kinds().len(), MOST_KINDS + 1);
        assert_eq!((problems.total(), problems.kinds()[0].0), (676, OTHER));
    }
}
