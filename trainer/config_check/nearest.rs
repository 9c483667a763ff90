//! What a mistyped name was probably meant to be.

use std::cmp::Reverse;

/// The known name that `name` was probably meant to be: at most a third of its letters (or
/// two) away, the one with the longer common beginning of several.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = |candidate: &str| {
        let pairs = name.chars().zip(candidate.chars());
        pairs.take_while(|(ours, theirs)| ours == theirs).count()
    };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min_by_key(|(distance, candidate)| (*distance, Reverse(alike(candidate))))
        .filter(|(distance, _)| *distance <= (name.chars().count() / 3).max(2))
        .map(|(_, candidate)| candidate)
}
