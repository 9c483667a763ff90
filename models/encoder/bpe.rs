//! CLIP's tokenizer from vocab.json and merges.txt, for folders without a tokenizer.json: the pieces that transformers'
//! `CLIPTokenizer` puts together (NFC, white space joined, lower case, words split by OpenAI's expression,
//! byte-level pairs that end in `</w>`, start and end around), as one tokenizer.json.
//!
//! Special tokens are read from tokenizer_config.json, special_tokens_map.json and added_tokens.json under that
//! class's rules. Left out: its `extra_special_tokens`, which no CLIP has.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::ModelError;
use crate::json_section::read_object;

/// Where OpenAI's tokenizer parts words.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The named special tokens, in the order in which they are added, and what they are where no file says.
const NAMED: [(&str, &str); 4] = [
    ("bos_token", "<|startoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
];

/// The folder's tokenizer as the bytes of a tokenizer.json; none when it has not both files.
///
/// # Errors
/// Malformed files; a start or end token that is not in the vocabulary.
pub(super) fn tokenizer_json(folder: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    let (vocab_path, merges_path) = (folder.join("vocab.json"), folder.join("merges.txt"));
    if !(vocab_path.exists() && merges_path.exists()) {
        return Ok(None);
    }
    let vocab = read_object(&vocab_path)?;
    if let Some((token, id)) = vocab.iter().find(|(_, id)| id.as_u64().is_none()) {
        let reason = format!("the id of {token:?} must be a whole number, got {id}");
        return Err(ModelError::malformed(&vocab_path, reason));
    }
    let (added, names) = special(folder, &vocab)?;
    let id = |token: &str| {
        let listed = added.iter().find(|own| own["content"] == token);
        let id = vocab.get(token).or(listed.map(|own| &own["id"]));
        id.and_then(Value::as_u64).ok_or_else(|| {
            ModelError::malformed(&vocab_path, format!("has no id for the token {token}"))
        })
    };
    let [start, end, unknown, _] = &names;
    let (start_id, end_id) = (id(start)?, id(end)?);
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "decoder": null,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [end, end_id], "cls": [start, start_id], "trim_offsets": false, "add_prefix_space": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges(&merges_path)?},
    });
    Ok(Some(whole.to_string().into_bytes()))
}

/// The pairs of merges.txt, one a line, behind a line that says the file's version.
fn merges(path: &Path) -> Result<Vec<[String; 2]>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"))
        .map(
            |(index, line)| match line.split(' ').collect::<Vec<_>>()[..] {
                [left, right] if !left.is_empty() && !right.is_empty() => {
                    Ok([left.to_owned(), right.to_owned()])
                }
                _ => Err(ModelError::malformed(
                    path,
                    format!(
                        "line {}: must be two pieces with a space between them",
                        index + 1
                    ),
                )),
            },
        )
        .collect()
}

/// Special tokens in tokenizer.json's form, and the contents of those of [`NAMED`].
fn special(
    folder: &Path,
    vocab: &Map<String, Value>,
) -> Result<(Vec<Value>, [String; 4]), ModelError> {
    let read = |name: &str| {
        let path = folder.join(name);
        path.exists().then(|| read_object(&path)).transpose()
    };
    let mut config = read("tokenizer_config.json")?.unwrap_or_default();
    let mut added: Vec<Value> = Vec::new();
    if let Some(Value::Object(listed)) = config.get("added_tokens_decoder") {
        for (id, token) in listed {
            if let (Ok(id), Some(content)) = (id.parse::<u64>(), content(token)) {
                added.push(entry(id, content, token));
            }
        }
    } else {
        // What older folders hold instead, and above the configuration.
        config.extend(read("special_tokens_map.json")?.unwrap_or_default());
        let contents = NAMED.map(|(key, default)| named(&config, key, default));
        for (token, id) in read("added_tokens.json")?.unwrap_or_default() {
            if let Some(id) = id.as_u64() {
                // Those that the class names by itself alone are taken as they come out of the normaliser.
                let said = NAMED
                    .iter()
                    .any(|(key, _)| config.get(*key).and_then(content) == Some(&token));
                let flags = json!({"normalized": !said, "special": contents.contains(&token)});
                added.push(entry(id, &token, &flags));
            }
        }
    }
    added.sort_by_key(|token| token["id"].as_u64());
    let listed: Vec<String> = added
        .iter()
        .filter_map(content)
        .map(str::to_owned)
        .collect();
    for (key, default) in NAMED {
        let own = named(&config, key, default);
        if listed.contains(&own) {
            continue;
        }
        let plain = Value::Null;
        let flags = config.get(key).filter(|value| value.is_object());
        // One that is in no list has no row in the network either.
        let Some(id) = vocab.get(&own).and_then(Value::as_u64) else {
            continue;
        };
        // The same token under a later name has that one's flags.
        added.retain(|token| token["content"] != own.as_str());
        added.push(entry(id, &own, flags.unwrap_or(&plain)));
    }
    let names = NAMED.map(|(key, default)| named(&config, key, default));
    Ok((added, names))
}

fn named(config: &Map<String, Value>, key: &str, default: &str) -> String {
    let own = config.get(key).and_then(content);
    own.unwrap_or(default).to_owned()
}

/// A token is its string, or an object that holds it.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn entry(id: u64, content: &str, flags: &Value) -> Value {
    let flag =
        |key: &str, default: bool| flags.get(key).and_then(Value::as_bool).unwrap_or(default);
    json!({
        "id": id, "content": content, "special": flag("special", true), "normalized": flag("normalized", false),
        "single_word": flag("single_word", false), "lstrip": flag("lstrip", false), "rstrip": flag("rstrip", false),
    })
}
