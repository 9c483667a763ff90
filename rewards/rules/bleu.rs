//! BLEU as sacrebleu computes it: the tokenizer `13a`, n-grams up to four, exponential smoothing of
//! empty ones; of a single sentence, only the orders that it is long enough for.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;
use crate::rules::words::{is_space, ngrams, split};
use regex::Regex;
use std::sync::LazyLock;

const ORDERS: usize = 4;

reward_options! {
    /// BLEU of the completion against `reference.text`, a sentence's, as a fraction of 1; for completions of
    /// format `text`.
    Bleu (clip None) {}
}

impl RewardFn for Bleu {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::Caption,
        place: 1,
    }];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_text()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        Value::Known(sentence_bleu(cx.text(), &[cx.reference_text()]) / 100.0)
    }
}

/// What sums over sentences: n-grams in common and in all, and both lengths.
#[derive(Default)]
struct BleuSums {
    correct: [usize; ORDERS],
    total: [usize; ORDERS],
    length: usize,
    reference_length: usize,
}

/// BLEU, 0..100, of predictions, each beside its references.
pub fn corpus_bleu(pairs: &[(&str, &[&str])]) -> f64 {
    let mut counts = BleuSums::default();
    pairs
        .iter()
        .for_each(|(prediction, references)| counts.add(prediction, references));
    counts.score(false)
}

/// BLEU, 0..100, of one prediction.
pub fn sentence_bleu(prediction: &str, references: &[&str]) -> f64 {
    let mut counts = BleuSums::default();
    counts.add(prediction, references);
    counts.score(true)
}

impl BleuSums {
    fn add(&mut self, prediction: &str, references: &[&str]) {
        let words = tokens(prediction);
        let references: Vec<Vec<String>> = references.iter().map(|text| tokens(text)).collect();
        self.length += words.len();
        let closest = references
            .iter()
            .map(Vec::len)
            .min_by_key(|&length| (length.abs_diff(words.len()), length));
        self.reference_length += closest.unwrap_or(0);
        for n in 1..=ORDERS {
            let theirs: Vec<_> = references.iter().map(|words| ngrams(words, n)).collect();
            for (run, count) in ngrams(&words, n) {
                let most = theirs.iter().filter_map(|counts| counts.get(run)).max();
                self.correct[n - 1] += count.min(most.copied().unwrap_or(0));
                self.total[n - 1] += count;
            }
        }
    }

    /// `effective` leaves out the orders that nothing is long enough for.
    fn score(&self, effective: bool) -> f64 {
        if self.correct.iter().all(|&count| count == 0) {
            return 0.0;
        }
        let (mut smooth, mut logs, mut orders) = (1.0, 0.0, ORDERS);
        for (n, (&correct, &total)) in self.correct.iter().zip(&self.total).enumerate() {
            if total == 0 {
                // Without an order that counts, the geometric mean is zero.
                if !effective {
                    return 0.0;
                }
                orders = n;
                break;
            }
            let precision = if correct == 0 {
                smooth *= 2.0;
                100.0 / (smooth * total as f64)
            } else {
                100.0 * correct as f64 / total as f64
            };
            logs += precision.ln();
        }
        let (length, reference) = (self.length as f64, self.reference_length as f64);
        let brevity = if length < reference {
            (1.0 - reference / length).exp()
        } else {
            1.0
        };
        brevity * (logs / orders as f64).exp()
    }
}

/// Words and signs as mteval's script 13a parts them.
fn tokens(text: &str) -> Vec<String> {
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        let rule = |pattern: &str| Regex::new(pattern).expect("a fixed pattern");
        [
            // Signs stand alone, but for points, commas, hyphens and apostrophes,
            (
                rule(r"([\x20-\x26\x28-\x2b\x3a-\x40\x5b-\x60\x7b-\x7e/])"),
                " $1 ",
            ),
            // points and commas unless digits stand on that side,
            (rule(r"([^0-9])([.,])"), "$1 $2 "),
            (rule(r"([.,])([^0-9])"), " $1 $2"),
            // and hyphens behind digits.
            (rule(r"([0-9])(-)"), "$1 $2 "),
        ]
    });
    let mut line = text
        .trim_end_matches(is_space)
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    if line.contains('&') {
        for (code, sign) in [
            ("&quot;", "\""),
            ("&amp;", "&"),
            ("&lt;", "<"),
            ("&gt;", ">"),
        ] {
            line = line.replace(code, sign);
        }
    }
    line = format!(" {line} ");
    for (pattern, parted) in RULES.iter() {
        line = pattern.replace_all(&line, *parted).into_owned();
    }
    split(&line).map(str::to_owned).collect()
}
