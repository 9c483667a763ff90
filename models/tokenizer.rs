//! A Hugging Face tokenizer folder: text to ids, ids to text, and the bytes of single tokens.

use std::path::{Path, PathBuf};

use crate::ModelError;
use crate::json_section::read_object;

/// `tokenizer.json` with the end-of-sequence ids of its folder.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    folder: PathBuf,
    eos: Vec<i64>,
    pad: Option<i64>,
}

/// The files of a tokenizer that an exported folder carries along.
const FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
];

impl Tokenizer {
    /// Reads `folder/tokenizer.json`. The end ids are those of generation_config.json or
    /// config.json, else tokenizer_config.json's `eos_token`.
    ///
    /// # Errors
    /// A missing or malformed file.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| ModelError::malformed(&path, error))?;
        // A tokenizer.json may carry the truncation or padding of its last use; a trainer wants neither.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        let mut eos = crate::GenerationConfig::read(folder)?.eos;
        let config = folder.join("tokenizer_config.json");
        let named = |key: &str| -> Result<Option<i64>, ModelError> {
            if !config.exists() {
                return Ok(None);
            }
            let map = read_object(&config)?;
            let token = map
                .get(key)
                .and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
            Ok(token
                .and_then(|token| inner.token_to_id(token))
                .map(i64::from))
        };
        let pad = named("pad_token")?;
        if eos.is_empty() {
            eos.extend(named("eos_token")?);
        }
        Ok(Self {
            inner,
            folder: folder.to_owned(),
            eos,
            pad,
        })
    }

    /// The folder it was read from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ids that end a completion.
    pub fn eos(&self) -> &[i64] {
        &self.eos
    }

    /// The padding id, if the folder names one.
    pub fn pad(&self) -> Option<i64> {
        self.pad
    }

    /// Number of ids, added tokens included.
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a token's exact string.
    pub fn id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// Ids of `text`; special tokens in it are recognised, none are added.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().iter().map(|&id| i64::from(id)).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Text of `ids`, special tokens left out.
    pub fn decode(&self, ids: &[i64]) -> String {
        let ids: Vec<u32> = ids
            .iter()
            .filter_map(|&id| u32::try_from(id).ok())
            .collect();
        self.inner.decode(&ids, true).unwrap_or_default()
    }

    /// Copies the tokenizer's files to `folder`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn export(&self, folder: &Path) -> Result<(), ModelError> {
        for name in FILES {
            let from = self.folder.join(name);
            if from.exists() {
                std::fs::copy(&from, folder.join(name)).map_err(ModelError::io(&from))?;
            }
        }
        Ok(())
    }
}
