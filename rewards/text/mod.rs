//! How alike two texts are by their words and letters: BLEU, chrF++ and ROUGE-L, as the packages
//! sacrebleu and rouge-score compute them (fixtures from both), and by their tokens' features: BERTScore.
//! Pure functions.

mod bert_score;
mod bleu;
mod chrf;
#[cfg(test)]
mod parity;
mod rouge;

pub(crate) use bert_score::Tokens;
pub use bert_score::{BertMeasure, BertScore};
pub use bleu::{Bleu, corpus_bleu, sentence_bleu};
pub use chrf::{Chrf, corpus_chrf, sentence_chrf};
pub use rouge::{RougeL, rouge_l};

use std::collections::HashMap;
use std::hash::Hash;

/// White space as Python has it: Unicode's, and the four separators among ASCII's control characters.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The parts between white space.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|part| !part.is_empty())
}

/// How often each run of `n` neighbours occurs.
fn ngrams<T: Eq + Hash>(items: &[T], n: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for run in items.windows(n) {
        *counts.entry(run).or_insert(0) += 1;
    }
    counts
}
