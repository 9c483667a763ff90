//! Texts in parts, as the packages sacrebleu and rouge-score part them.

use std::collections::HashMap;
use std::hash::Hash;

/// White space as Python has it: Unicode's, and the four separators among ASCII's control characters.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The parts between white space.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|part| !part.is_empty())
}

/// How often each run of `n` neighbours occurs.
pub(crate) fn ngrams<T: Eq + Hash>(items: &[T], n: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for run in items.windows(n) {
        *counts.entry(run).or_insert(0) += 1;
    }
    counts
}
