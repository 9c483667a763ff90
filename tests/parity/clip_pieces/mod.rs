//! CLIP's tokenizer out of vocab.json and merges.txt, against transformers' `CLIPTokenizer` on odd texts.

use std::path::PathBuf;

use models::encoder::Encoder;
use serde_json::Value;
use tch::{Device, Kind};

use crate::support::fixture;

/// The tiny CLIP, its tokenizer's files replaced by those of this folder.
fn folder(name: &str) -> PathBuf {
    let folder = crate::cli::program::scratch(name);
    crate::cli::program::copy(&fixture("parity/encoders/clip"), &folder);
    for gone in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::remove_file(folder.join(gone)).unwrap();
    }
    for file in ["vocab.json", "merges.txt"] {
        let from = fixture("parity/clip_pieces").join(file);
        std::fs::copy(from, folder.join(file)).unwrap();
    }
    folder
}

fn load(folder: &std::path::Path) -> Result<Encoder, String> {
    Encoder::load(folder, (Kind::Float, Device::Cpu)).map_err(|error| error.to_string())
}

#[test]
fn a_vocabulary_and_merges_are_clips_tokenizer() {
    let text = std::fs::read_to_string(fixture("parity/clip_pieces/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    for (index, case) in expected["cases"].as_array().unwrap().iter().enumerate() {
        let folder = folder(&format!("clip_pieces_{index}"));
        for (name, value) in case["files"].as_object().unwrap() {
            std::fs::write(folder.join(name), value.to_string()).unwrap();
        }
        let encoder = load(&folder).unwrap();
        for (text, ids) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let want: Vec<i64> = serde_json::from_value(ids.clone()).unwrap();
            assert_eq!(
                encoder.tokenize(text).unwrap(),
                want,
                "case {index}: {text:?}"
            );
        }
    }
}

#[test]
fn a_broken_vocabulary_or_merge_is_refused_by_file_and_line() {
    for (index, (file, old, new, says)) in [
        ("merges.txt", "ci r", "ci", "merges.txt: line 3: "),
        ("merges.txt", "ci r", "ci rr", "merges.txt: "),
        (
            "vocab.json",
            "<|startoftext|>",
            "<|start|>",
            "vocab.json: has no id for the token <|startoftext|>",
        ),
        ("vocab.json", ":5,", ":\"5\",", "vocab.json: the id of "),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = folder(&format!("clip_pieces_broken_{index}"));
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(old));
        std::fs::write(folder.join(file), text.replacen(old, new, 1)).unwrap();
        let error = load(&folder).err().unwrap();
        assert!(error.contains(says), "{says} is not in: {error}");
    }
    // One of the two files alone is no tokenizer.
    let folder = folder("clip_pieces_alone");
    std::fs::remove_file(folder.join("merges.txt")).unwrap();
    let error = load(&folder)
        .unwrap()
        .tokenize("a")
        .unwrap_err()
        .to_string();
    assert!(error.contains("vocab.json and merges.txt"), "{error}");
}
