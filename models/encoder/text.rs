//! Texts on their way into an encoder: the folder's tokenizer with its special tokens, truncation that
//! keeps the last of them (Long-CLIP's forced EOT), padding where the network was trained with it.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::normalizers::{Lowercase, Sequence};

use super::bpe;
use crate::json_section::read_object;
use crate::{ModelError, added_tokens};

/// What a network asks of its ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextRules {
    /// Ids are below it.
    pub vocab: i64,
    /// Most ids of a text.
    pub longest: i64,
    /// The id that fills every text up to `longest`; none where texts keep their length.
    pub pad: Option<i64>,
    /// Whether texts are cleaned as OpenAI's CLIP cleans them.
    pub clean: bool,
    /// Whether a folder without tokenizer.json may hold CLIP's vocabulary and merges instead.
    pub clip: bool,
}

/// A folder's tokenizer under a network's rules.
pub(super) struct TextTokens {
    inner: tokenizers::Tokenizer,
    rules: TextRules,
    pad_left: bool,
}

impl std::fmt::Debug for TextTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokens")
            .field("rules", &self.rules)
            .finish()
    }
}

impl TextTokens {
    /// Reads `folder/tokenizer.json`, for CLIP without one vocab.json and merges.txt; none when they are not there.
    pub fn read(folder: &Path, mut rules: TextRules) -> Result<Option<Self>, ModelError> {
        let mut path = folder.join("tokenizer.json");
        let mut bytes = None;
        let whole = path.exists();
        if whole {
            bytes = Some(std::fs::read(&path).map_err(ModelError::io(&path))?);
        } else if rules.clip {
            path = folder.join("merges.txt");
            bytes = bpe::tokenizer_json(folder)?;
        }
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let bad = |error: tokenizers::Error| ModelError::malformed(&path, error);
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(bad)?;
        if whole {
            added_tokens::complete(&mut inner, folder)?;
        }
        inner.with_padding(None);
        let truncation = tokenizers::TruncationParams {
            max_length: rules.longest as usize,
            ..Default::default()
        };
        inner.with_truncation(Some(truncation)).map_err(bad)?;
        let mut pad_left = false;
        let config = folder.join("tokenizer_config.json");
        if let Some(pad) = &mut rules.pad
            && config.exists()
        {
            let map = read_object(&config)?;
            let named = map
                .get("pad_token")
                .and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()))
                .and_then(|token| inner.token_to_id(token));
            *pad = named.map_or(*pad, i64::from);
            let class = map
                .get("tokenizer_class")
                .and_then(Value::as_str)
                .unwrap_or("");
            // Of these classes the side is the left one where the file names none.
            let gemma = class == "Siglip2Tokenizer" || class.starts_with("GemmaTokenizer");
            let side = map.get("padding_side").and_then(Value::as_str);
            pad_left = side.map_or(gemma, |side| side == "left");
            // This class lowers its texts whatever its tokenizer.json says, but not what is a token as it stands.
            if class == "Siglip2Tokenizer" {
                let own = inner.get_normalizer().cloned();
                let steps = std::iter::once(Lowercase.into()).chain(own).collect();
                inner
                    .with_normalizer(Some(Sequence::new(steps)))
                    .map_err(bad)?;
            }
        }
        Ok(Some(Self {
            inner,
            rules,
            pad_left,
        }))
    }

    /// A tokenizer of bytes between CLIP's two special tokens, for networks without a folder.
    pub fn of_bytes(rules: TextRules) -> Result<Self, ModelError> {
        let (start, end) = (rules.vocab - 2, rules.vocab - 1);
        // CLIP's alphabet: a visible character for every byte.
        let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
            .into_iter()
            .collect();
        alphabet.sort_unstable();
        let mut vocab: serde_json::Map<String, Value> = alphabet
            .iter()
            .enumerate()
            .map(|(id, letter)| (letter.to_string(), id.into()))
            .collect();
        vocab.insert("<start>".into(), start.into());
        vocab.insert("<end>".into(), end.into());
        let whole = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            "post_processor": {"type": "RobertaProcessing", "sep": ["<end>", end], "cls": ["<start>", start], "trim_offsets": false, "add_prefix_space": false},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
        });
        let bad = |error: tokenizers::Error| ModelError::Text(error.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(whole.to_string()).map_err(bad)?;
        let truncation = tokenizers::TruncationParams {
            max_length: rules.longest as usize,
            ..Default::default()
        };
        inner.with_truncation(Some(truncation)).map_err(bad)?;
        Ok(Self {
            inner,
            rules,
            pad_left: false,
        })
    }

    /// The ids of a text, special tokens, truncation and padding included.
    pub fn ids(&self, text: &str) -> Result<Vec<i64>, ModelError> {
        let encoding = self.encoding(text)?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        if let Some(pad) = self.rules.pad {
            let missing = (self.rules.longest as usize).saturating_sub(ids.len());
            let at = if self.pad_left { 0 } else { ids.len() };
            ids.splice(at..at, std::iter::repeat_n(pad, missing));
        }
        Ok(ids)
    }

    /// Whether nothing of a text is cut off.
    pub fn are_all_of(&self, text: &str) -> Result<bool, ModelError> {
        Ok(self.encoding(text)?.get_overflowing().is_empty())
    }

    fn encoding(&self, text: &str) -> Result<tokenizers::Encoding, ModelError> {
        let text = match self.rules.clean {
            true => super::text_cleaning::clean(text).into(),
            false => std::borrow::Cow::Borrowed(text),
        };
        let encoding = self.inner.encode_fast(text.as_ref(), true);
        encoding.map_err(|error| ModelError::Text(error.to_string()))
    }
}

/// What tokenizer_config.json says of the longest text, if it names a number that means something.
pub(super) fn model_max_length(folder: &Path) -> Result<Option<i64>, ModelError> {
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let longest = read_object(&path)?
        .get("model_max_length")
        .and_then(Value::as_i64);
    Ok(longest.filter(|&longest| longest > 1))
}
