//! ROUGE-L as the rouge-score package computes it without stemming: words are runs of ASCII letters
//! and digits in lower case; precision and recall of the longest common subsequence.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;
use std::collections::HashMap;

reward_options! {
    /// F1 of ROUGE-L between the completion and `reference.text`, 0..1; for completions of format `text`.
    RougeL (clip None) {}
}

impl RewardFn for RougeL {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::Caption,
        place: 0,
    }];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_text()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        Value::Known(rouge_l(cx.text(), cx.reference_text()))
    }
}

/// F1 of ROUGE-L, 0..1; 0 when either text has no words.
pub fn rouge_l(prediction: &str, reference: &str) -> f64 {
    let (a, b) = (words(prediction), words(reference));
    let common = longest_common(&a, &b) as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / a.len() as f64, common / b.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let word = |c: char| c.is_ascii_alphanumeric();
    let runs = text.split(|c| !word(c)).filter(|run| !run.is_empty());
    runs.map(str::to_owned).collect()
}

/// Length of the longest common subsequence, 64 places at once, so that texts of hundreds of thousands of
/// words take seconds: Hyyrö's recurrence, a zero standing where a row of the usual table steps up.
fn longest_common(a: &[String], b: &[String]) -> usize {
    // Where each word stands in `a`: blocks that hold it, and their bits.
    let mut places: HashMap<&str, Vec<(usize, u64)>> = HashMap::new();
    for (index, word) in a.iter().enumerate() {
        let (block, bit) = (index / 64, 1 << (index % 64));
        let blocks = places.entry(word).or_default();
        match blocks.last_mut() {
            Some((last, mask)) if *last == block => *mask |= bit,
            _ => blocks.push((block, bit)),
        }
    }
    let mut row = vec![u64::MAX; a.len().div_ceil(64)];
    for word in b {
        let Some(blocks) = places.get(word.as_str()) else {
            continue;
        };
        let mut blocks = blocks.iter().copied().peekable();
        let (mut block, mut carry) = (0, false);
        while block < row.len() {
            // Blocks without the word change by what is carried into them alone.
            let mask = match (blocks.peek().copied(), carry) {
                (None, false) => break,
                (Some((next, mask)), _) if next == block || !carry => {
                    blocks.next();
                    block = next;
                    mask
                }
                _ => 0,
            };
            let old = row[block];
            let (sum, over) = old.overflowing_add(old & mask);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            row[block] = sum | (old & !mask);
            carry = over || again;
            block += 1;
        }
    }
    row.iter().map(|block| block.count_zeros() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the textbooks fill it.
    fn table(a: &[String], b: &[String]) -> usize {
        let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
        for (i, left) in a.iter().enumerate() {
            for (j, right) in b.iter().enumerate() {
                rows[i + 1][j + 1] = match left == right {
                    true => rows[i][j] + 1,
                    false => rows[i][j + 1].max(rows[i + 1][j]),
                };
            }
        }
        rows[a.len()][b.len()]
    }

    #[test]
    fn many_places_at_once_are_the_table() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for case in 0..200 {
            let kinds = 1 + draw(12);
            let lengths = [draw(200), draw(200)];
            let [a, b] = lengths.map(|length| {
                let word = |_| draw(kinds).to_string();
                (0..length).map(word).collect::<Vec<String>>()
            });
            assert_eq!(longest_common(&a, &b), table(&a, &b), "case {case}");
        }
    }

    #[test]
    fn texts_of_many_words_are_scored() {
        let (long, longer) = ("red ".repeat(100_000), "red ".repeat(120_000));
        let want = 2.0 * 100_000.0 / 220_000.0;
        assert!((rouge_l(&long, &longer) - want).abs() < 1e-12);
    }
}
