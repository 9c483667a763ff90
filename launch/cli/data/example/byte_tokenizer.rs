//! A tokenizer of bytes in the form of tokenizer.json, for encoders of texts that were never trained: every byte is a
//! token, between the two that begin and end a text.

use serde_json::{Map, Value, json};

/// The special tokens of a family and their ids; bytes take the other ids of `0..256 + special.len()`.
pub struct ByteTokenizer {
    /// Text and id of each special token.
    pub special: &'static [(&'static str, i64)],
    /// The one before a text, if any.
    pub start: Option<&'static str>,
    /// The one behind it.
    pub end: &'static str,
}

impl ByteTokenizer {
    /// Ids in all.
    pub fn len(&self) -> i64 {
        256 + self.special.len() as i64
    }

    /// Its tokenizer.json.
    pub fn json(&self) -> Value {
        let mut vocabulary = Map::new();
        let taken = |id: &i64| self.special.iter().any(|(_, special)| special == id);
        let free = (0..self.len()).filter(|id| !taken(id));
        for (letter, id) in letters().into_iter().zip(free) {
            vocabulary.insert(letter.to_string(), json!(id));
        }
        let mut added = Vec::new();
        for (text, id) in self.special {
            vocabulary.insert((*text).to_owned(), json!(id));
            added.push(json!({
                "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
        let ends: Vec<&str> = self.start.into_iter().chain([self.end]).collect();
        let special: Map<String, Value> = ends
            .iter()
            .filter_map(|end| self.special.iter().find(|(text, _)| text == end))
            .map(|(text, id)| {
                let entry = json!({"id": text, "ids": [id], "tokens": [text]});
                ((*text).to_owned(), entry)
            })
            .collect();
        let token = |text: &str| json!({"SpecialToken": {"id": text, "type_id": 0}});
        let mut single: Vec<Value> = self.start.into_iter().map(token).collect();
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        single.push(token(self.end));
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": [],
            },
        })
    }
}

/// The letter that byte-level tokenizers write for each byte: itself where it can be seen, else one behind Latin.
fn letters() -> Vec<char> {
    let mut hidden = 0;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                hidden += 1;
                char::from_u32(255 + hidden).unwrap_or(' ')
            }
        })
        .collect()
}
