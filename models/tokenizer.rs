//! A Hugging Face tokenizer folder: text to ids, ids to text, and the bytes of single tokens.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::json_section::read_object;
use crate::lora::text_folder;
use crate::model_folder::{FolderUse, folder_problem};
use crate::svg_tokens::{SvgVocabulary, extend_tokenizer, is_markup};
use crate::{ModelError, added_tokens};

/// `tokenizer.json` with the tokens that the files beside it add, and the end-of-sequence ids of its folder.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    folder: PathBuf,
    eos: Vec<i64>,
    pad: Option<i64>,
    /// Ids that are no part of a text.
    markers: HashSet<u32>,
    /// Ids below the last one that stand for no token.
    holes: Vec<i64>,
    /// One more than the last id.
    end: i64,
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
    /// A missing or malformed file; a token to which two files give different ids.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        Self::read_extended(folder, None)
    }

    /// [`Self::read`], with the tokens of a vocabulary added that the folder does not have: ids are those that
    /// [`crate::svg_tokens::extend_folder`] gives. It exports the folder's own files.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_extended(
        folder: &Path,
        vocabulary: Option<SvgVocabulary>,
    ) -> Result<Self, ModelError> {
        if let Some(problem) = folder_problem(folder, folder, FolderUse::Tokenizer) {
            return Err(ModelError::Folder(problem));
        }
        let folder = &text_folder(folder);
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| ModelError::malformed(&path, error))?;
        // A tokenizer.json may carry the truncation or padding of its last use; a trainer wants neither.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        added_tokens::complete(&mut inner, folder)?;
        if let Some(vocabulary) = vocabulary {
            extend_tokenizer(&mut inner, vocabulary)?;
        }
        let mut eos = crate::GenerationConfig::read(folder)?.eos;
        let config = folder.join("tokenizer_config.json");
        let named = |key: &str| -> Result<Option<i64>, ModelError> {
            if !config.exists() {
                return Ok(None);
            }
            let map = read_object(&config)?;
            let token = map.get(key).and_then(added_tokens::content);
            Ok(token
                .and_then(|token| inner.token_to_id(&token))
                .map(i64::from))
        };
        let pad = named("pad_token")?;
        if eos.is_empty() {
            eos.extend(named("eos_token")?);
        }
        let ids: HashSet<i64> = inner.get_vocab(true).into_values().map(i64::from).collect();
        let end = ids.iter().max().map_or(0, |last| last + 1);
        Ok(Self {
            markers: added_tokens::markers(&inner, folder, &eos)?,
            holes: (0..end).filter(|id| !ids.contains(id)).collect(),
            end,
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

    /// Text of `ids`. What ends, begins or pads a sequence and the markers of the chat template are left out; any other
    /// token is text, whether it is flagged as special or not.
    pub fn decode(&self, ids: &[i64]) -> String {
        let ids: Vec<u32> = ids
            .iter()
            .filter_map(|&id| u32::try_from(id).ok())
            .filter(|id| !self.markers.contains(id))
            .collect();
        self.inner.decode(&ids, false).unwrap_or_default()
    }

    /// Tokens that look like SVG or are one of `words`, and that a completion's text would not show.
    pub fn unshown(&self, words: &[&str]) -> Vec<String> {
        let added = self.inner.get_added_tokens_decoder();
        let mut lost = Vec::new();
        for (token, id) in self.inner.get_vocab(true) {
            if !(is_markup(&token) || words.contains(&token.as_str())) {
                continue;
            }
            let text = self.decode(&[i64::from(id)]);
            let shown = match added.contains_key(&id) {
                true => text == token,
                // The pieces of a vocabulary are written in an alphabet of its own.
                false => !text.is_empty(),
            };
            lost.extend((!shown).then_some(token));
        }
        lost.sort();
        lost
    }

    /// The ids below `rows` that stand for no token: padding of an embedding matrix.
    pub fn unused_ids(&self, rows: i64) -> Vec<i64> {
        let holes = self.holes.iter().copied().filter(|id| *id < rows);
        holes.chain(self.end..rows.max(self.end)).collect()
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
