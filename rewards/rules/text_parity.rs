//! The packages' own numbers, made by tests/fixtures/texts.py.

use super::bleu::{corpus_bleu, sentence_bleu};
use super::chrf::{corpus_chrf, sentence_chrf};
use super::rouge_l::rouge_l;

#[derive(serde::Deserialize)]
struct TextCase {
    prediction: String,
    references: Vec<String>,
    bleu: f64,
    chrf: f64,
    /// Against the first reference.
    rouge_l: f64,
}

#[derive(serde::Deserialize)]
struct Fixture {
    cases: Vec<TextCase>,
    corpus_bleu: f64,
    corpus_chrf: f64,
}

#[track_caller]
fn near(found: f64, expected: f64, what: &str) {
    let gap = (found - expected).abs() / expected.abs().max(1.0);
    assert!(gap < 1e-9, "{what}: {found} instead of {expected}");
}

#[test]
fn texts_score_as_in_the_packages() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../tests/fixtures/texts.json")).unwrap();
    let mut pairs = Vec::new();
    for case in &fixture.cases {
        let references: Vec<&str> = case.references.iter().map(String::as_str).collect();
        let what = format!("{:?}", case.prediction);
        near(
            sentence_bleu(&case.prediction, &references),
            case.bleu,
            &format!("BLEU of {what}"),
        );
        near(
            sentence_chrf(&case.prediction, &references),
            case.chrf,
            &format!("chrF++ of {what}"),
        );
        near(
            rouge_l(&case.prediction, references[0]),
            case.rouge_l,
            &format!("ROUGE-L of {what}"),
        );
        pairs.push((case.prediction.as_str(), references));
    }
    let pairs: Vec<(&str, &[&str])> = pairs
        .iter()
        .map(|(text, refs)| (*text, refs.as_slice()))
        .collect();
    near(corpus_bleu(&pairs), fixture.corpus_bleu, "BLEU of all");
    near(corpus_chrf(&pairs), fixture.corpus_chrf, "chrF++ of all");
}
