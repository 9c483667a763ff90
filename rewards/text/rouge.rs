//! ROUGE-L as the rouge-score package computes it without stemming: words are runs of ASCII letters
//! and digits in lower case; precision and recall of the longest common subsequence.

use crate::config::reward_options;

reward_options! {
    /// F1 of ROUGE-L between the completion and `reference.text`, 0..1; for completions of format `text`.
    RougeL (clip None) {}
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

/// Length of the longest common subsequence, in one row of memory.
fn longest_common(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0usize; b.len() + 1];
    for left in a {
        let mut diagonal = 0;
        for (j, right) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if left == right {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}
