//! chrF++ as sacrebleu computes it: F2 over runs of one to six letters (white space left out) and of
//! one and two words, each order that both texts have counting alike.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;
use crate::rules::words::{is_space, ngrams, split};

const LETTERS: usize = 6;
const WORDS: usize = 2;
const ORDERS: usize = LETTERS + WORDS;
/// Recall counts this much more than precision, squared.
const FACTOR: f64 = 4.0;

reward_options! {
    /// chrF++ of the completion against `reference.text` as a fraction of 1; for completions of format `text`.
    Chrf (clip None) {}
}

impl RewardFn for Chrf {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::Caption,
        place: 2,
    }];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_text()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        Value::Known(sentence_chrf(cx.text(), &[cx.reference_text()]) / 100.0)
    }
}

/// Of one order: runs in the prediction, in the reference, in both.
type NgramCounts = [[usize; 3]; ORDERS];

/// chrF++, 0..100, of predictions, each beside its references; the best reference of each counts.
pub fn corpus_chrf(pairs: &[(&str, &[&str])]) -> f64 {
    let mut sum = NgramCounts::default();
    for (prediction, references) in pairs {
        let best = best(prediction, references);
        for (sum, counts) in sum.iter_mut().zip(best) {
            (0..3).for_each(|i| sum[i] += counts[i]);
        }
    }
    score(&sum)
}

/// chrF++, 0..100, of one prediction.
pub fn sentence_chrf(prediction: &str, references: &[&str]) -> f64 {
    score(&best(prediction, references))
}

fn best(prediction: &str, references: &[&str]) -> NgramCounts {
    let mut best = (f64::NEG_INFINITY, NgramCounts::default());
    for reference in references {
        let counts = counts(prediction, reference);
        let value = score(&counts);
        if value > best.0 {
            best = (value, counts);
        }
    }
    best.1
}

fn counts(prediction: &str, reference: &str) -> NgramCounts {
    let letters = |text: &str| {
        text.chars()
            .filter(|c| !is_space(*c))
            .collect::<Vec<char>>()
    };
    let (letters, words) = (
        (letters(prediction), letters(reference)),
        (words(prediction), words(reference)),
    );
    let mut counts = NgramCounts::default();
    for n in 1..=LETTERS {
        counts[n - 1] = overlap(&letters.0, &letters.1, n);
    }
    for n in 1..=WORDS {
        counts[LETTERS + n - 1] = overlap(&words.0, &words.1, n);
    }
    counts
}

fn overlap<T: Eq + std::hash::Hash>(prediction: &[T], reference: &[T], n: usize) -> [usize; 3] {
    let (own, theirs) = (ngrams(prediction, n), ngrams(reference, n));
    let both = own
        .iter()
        .map(|(run, count)| theirs.get(run).map_or(0, |other| *count.min(other)))
        .sum();
    let own = if theirs.is_empty() {
        0
    } else {
        own.values().sum()
    };
    [own, theirs.values().sum(), both]
}

/// Words, a sign at the end (or else at the beginning) of one standing alone.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in split(text) {
        let sign = |c: char| c.is_ascii_punctuation();
        let ends = (
            word.chars().next().filter(|c| sign(*c)),
            word.chars().next_back().filter(|c| sign(*c)),
        );
        match ends {
            _ if word.chars().nth(1).is_none() => found.push(word.to_owned()),
            (_, Some(last)) => found.extend([word[..word.len() - 1].to_owned(), last.to_string()]),
            (Some(first), None) => found.extend([first.to_string(), word[1..].to_owned()]),
            (None, None) => found.push(word.to_owned()),
        }
    }
    found
}

fn score(counts: &NgramCounts) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for &[own, theirs, both] in counts {
        if own > 0 && theirs > 0 {
            precision += both as f64 / own as f64;
            recall += both as f64 / theirs as f64;
            orders += 1.0;
        }
    }
    if orders == 0.0 || precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    100.0 * (1.0 + FACTOR) * precision * recall / (FACTOR * precision + recall)
}
