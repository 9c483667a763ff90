//! JSONL in and out: rows with errors that name file and line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use models::Tokenizer;
use rollout::prompt::Message;
use rollout::template::ChatTemplate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Failure;

/// A row with its place.
pub struct Row<T> {
    /// The row.
    pub value: T,
    /// `file:line`.
    pub place: String,
}

/// All rows of `path`; empty lines are passed over.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<Row<T>>, Failure> {
    let file =
        File::open(path).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
        let place = format!("{}:{}", path.display(), index + 1);
        let line = line.map_err(|error| Failure::input(format!("{place}: {error}")))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let value = serde_json::from_slice(&line)
            .map_err(|error| Failure::input(format!("{place}: {error}")))?;
        rows.push(Row { value, place });
    }
    Ok(rows)
}

/// Writes rows beside `path` and renames when all are there.
pub struct Writer {
    path: PathBuf,
    aside: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    /// Opens the file beside `path`.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".partial");
        let aside = PathBuf::from(aside);
        let file = File::create(&aside)
            .map_err(|error| Failure::input(format!("--out {}: {error}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            aside,
            file: BufWriter::new(file),
        })
    }

    /// Appends a row.
    pub fn write(&mut self, row: &impl Serialize) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::other(format!("{}: {error}", self.path.display()))
        };
        let line = serde_json::to_string(row).map_err(|error| failed(&error))?;
        writeln!(self.file, "{line}").map_err(|error| failed(&error))
    }

    /// Puts the file in its place.
    pub fn finish(mut self) -> Result<(), Failure> {
        let done = self
            .file
            .flush()
            .and_then(|()| std::fs::rename(&self.aside, &self.path));
        done.map_err(|error| Failure::other(format!("{}: {error}", self.path.display())))
    }
}

/// What a row gives the policy to continue: exactly one of text, messages or ids.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PromptFields {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    #[serde(alias = "prompt_token_ids")]
    token_ids: Option<Vec<i64>>,
    images: Option<Vec<PathBuf>>,
}

/// The text side of a model folder: both absent for folders of ids alone.
pub struct TextSide {
    /// The tokenizer.
    pub tokenizer: Option<Tokenizer>,
    chat: Option<ChatTemplate>,
    vocab: i64,
}

impl TextSide {
    /// Reads what the folder has; `vocab` bounds the ids.
    pub fn read(folder: &Path, vocab: i64) -> Result<Self, Failure> {
        let tokenizer = folder
            .join("tokenizer.json")
            .exists()
            .then(|| Tokenizer::read(folder))
            .transpose()?;
        let chat = ChatTemplate::load(folder).map_err(Failure::input)?;
        Ok(Self {
            tokenizer,
            chat,
            vocab,
        })
    }

    /// The ids of `text`.
    pub fn encode(&self, text: &str, place: &str) -> Result<Vec<i64>, Failure> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| {
            Failure::input(format!(
                "{place}: text needs a tokenizer.json in the model folder; give token ids instead"
            ))
        })?;
        Ok(tokenizer.encode(text))
    }

    /// Checks that `ids` are the model's.
    pub fn check(&self, ids: Vec<i64>, place: &str) -> Result<Vec<i64>, Failure> {
        match ids.iter().find(|id| !(0..self.vocab).contains(*id)) {
            Some(id) => Err(Failure::input(format!(
                "{place}: token id {id} is not in 0..{}",
                self.vocab
            ))),
            None => Ok(ids),
        }
    }

    /// The prompt's ids.
    pub fn prompt(&self, fields: PromptFields, place: &str) -> Result<Vec<i64>, Failure> {
        if fields.images.is_some_and(|images| !images.is_empty()) {
            return Err(Failure::input(format!(
                "{place}: images: this model reads text only"
            )));
        }
        let ids = match (fields.prompt, fields.messages, fields.token_ids) {
            (Some(text), None, None) => self.encode(&text, place)?,
            (None, Some(messages), None) => {
                let chat = self.chat.as_ref().ok_or_else(|| {
                    Failure::input(format!(
                        "{place}: messages need a chat template in the model folder"
                    ))
                })?;
                let text = chat
                    .render(&messages, true, &IndexMap::new())
                    .map_err(|error| Failure::input(format!("{place}: {error}")))?;
                self.encode(&text, place)?
            }
            (None, None, Some(ids)) => self.check(ids, place)?,
            _ => {
                return Err(Failure::input(format!(
                    "{place}: exactly one of prompt, messages and token ids is needed"
                )));
            }
        };
        match ids.is_empty() {
            true => Err(Failure::input(format!("{place}: the prompt has no tokens"))),
            false => Ok(ids),
        }
    }
}
