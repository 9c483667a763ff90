//! JSONL in and out: rows with errors that name file and line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use models::image::PromptImages;
use models::image::{ProcessedPicture, Processor, Rgb8};
use models::{Decoder, Tokenizer, text_folder};
use rewards::{ImageSource, ScoreRow};
use rollout::data::{open_unpacked, row_messages, row_pictures, row_variables};
use rollout::prompt::{Message, check_rendered};
use rollout::template::ChatTemplate;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::CliFailure;

/// A row with its place.
pub struct Row<T> {
    /// The row.
    pub value: T,
    /// `file:line`.
    pub place: String,
}

/// A row of a file that a command reads.
pub trait FileRow: DeserializeOwned {
    /// The keys that it uses; others are named once (`not used: ..`).
    const KEYS: &'static [&'static [&'static str]];
}

/// All rows of `path`, which may be packed or in UTF-16; empty lines and a byte order mark are passed over. Keys that
/// nothing uses are named on standard error, unless `quiet`.
pub fn read<T: FileRow>(path: &Path, quiet: bool) -> Result<Vec<Row<T>>, CliFailure> {
    let file = open_unpacked(path)
        .map_err(|error| CliFailure::input(format!("{}: {error}", path.display())))?;
    let mut rows = Vec::new();
    let mut unused = IndexSet::new();
    for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
        let place = format!("{}:{}", path.display(), index + 1);
        let line = line.map_err(|error| CliFailure::input(format!("{place}: {error}")))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if index == 0 => rest,
            _ => line.as_slice(),
        };
        let value = serde_json::from_slice(line).or_else(|error| {
            // NaN and halves of characters are no fault of a row's.
            let mended = rewards::mended_json(line);
            let read = mended.and_then(|line| serde_json::from_slice(&line).ok());
            read.ok_or_else(|| CliFailure::input(format!("{place}: {}", wrong::<T>(line, &error))))
        })?;
        note_unused(line, T::KEYS, &mut unused);
        rows.push(Row { value, place });
    }
    if !unused.is_empty() && !quiet {
        let unused: Vec<String> = unused.into_iter().collect();
        eprintln!("{}: not used: {}", path.display(), unused.join(", "));
    }
    Ok(rows)
}

/// Adds the keys of a line that are not in `known`.
fn note_unused(line: &[u8], known: &[&[&str]], unused: &mut IndexSet<String>) {
    let keys = |line: &[u8]| serde_json::from_slice::<IndexMap<String, IgnoredAny>>(line).ok();
    let mended = || keys(&rewards::mended_json(line)?);
    for key in keys(line).or_else(mended).unwrap_or_default().into_keys() {
        if !known.iter().any(|keys| keys.contains(&key.as_str())) {
            unused.insert(key);
        }
    }
}

impl FileRow for ScoreRow {
    const KEYS: &'static [&'static [&'static str]] = &[ScoreRow::KEYS];
}

/// What is wrong with a line, by key where one is to blame.
fn wrong<T: DeserializeOwned>(line: &[u8], error: &serde_json::Error) -> String {
    // The place in the file goes before; serde's own counts lines from this row.
    let said = |error: &serde_json::Error| {
        let said = error.to_string();
        said[..said.rfind(" at line").unwrap_or(said.len())].to_owned()
    };
    let Ok(text) = std::str::from_utf8(line) else {
        return "is not UTF-8 text".to_owned();
    };
    let row = match serde_json::from_str(text) {
        Ok(Value::Object(row)) => row,
        _ if text.trim_start().starts_with('[') => {
            return "a row must be a JSON object, this is a list (rows stand one a line: `jq -c '.[]'` writes \
                    them so)"
                .to_owned();
        }
        Ok(_) => return "a row must be a JSON object".to_owned(),
        Err(error) => {
            return format!("is not JSON (column {}): {}", error.column(), said(&error));
        }
    };
    let reason = said(error);
    // The key is to blame without which nothing is wrong, or else something else is.
    let without = |key: &str| {
        let mut rest = row.clone();
        rest.remove(key);
        T::deserialize(Value::Object(rest))
    };
    let blamed = row.keys().find(|key| without(key).is_ok()).or_else(|| {
        let other = |key: &&String| without(key).is_err_and(|error| said(&error) != reason);
        row.keys().find(other)
    });
    match blamed {
        Some(key) if !reason.contains(&format!("`{key}`")) => format!("{key}: {reason}"),
        _ => reason,
    }
}

/// Writes rows beside `path` and renames when all are there.
pub struct RowWriter {
    path: PathBuf,
    aside: PathBuf,
    file: BufWriter<File>,
}

impl RowWriter {
    /// Opens the file beside `path`.
    ///
    /// # Errors
    /// A place where no file can be made.
    pub fn create(path: &Path) -> Result<Self, CliFailure> {
        if path.is_dir() {
            let said = format!("--out {}: is a folder, not a file", path.display());
            return Err(CliFailure::input(said));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".partial");
        let aside = PathBuf::from(aside);
        let file = File::create(&aside)
            .map_err(|error| CliFailure::input(format!("--out {}: {error}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            aside,
            file: BufWriter::new(file),
        })
    }

    /// Appends a row.
    pub fn write(&mut self, row: &impl Serialize) -> Result<(), CliFailure> {
        let line = serde_json::to_string(row);
        self.line(line)
    }

    /// Appends a value over several lines, for people.
    pub fn write_pretty(&mut self, value: &impl Serialize) -> Result<(), CliFailure> {
        let text = serde_json::to_string_pretty(value);
        self.line(text)
    }

    fn line(&mut self, text: serde_json::Result<String>) -> Result<(), CliFailure> {
        let written = text
            .map_err(std::io::Error::from)
            .and_then(|text| writeln!(self.file, "{text}"));
        written.map_err(|error| CliFailure::other(format!("{}: {error}", self.path.display())))
    }

    /// Puts the file in its place.
    pub fn finish(mut self) -> Result<(), CliFailure> {
        let done = self
            .file
            .flush()
            .and_then(|()| std::fs::rename(&self.aside, &self.path));
        done.map_err(|error| CliFailure::other(format!("{}: {error}", self.path.display())))
    }
}

impl Drop for RowWriter {
    /// What was not finished is taken away again.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.aside);
    }
}

/// What a row gives the policy to continue: exactly one of text, messages or ids.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PromptFields {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    #[serde(alias = "prompt_token_ids")]
    token_ids: Option<Vec<i64>>,
    /// Pictures in any form that rows of data may carry them in.
    images: Option<Value>,
    tools: Option<Value>,
    chat_template_kwargs: Option<Value>,
}

impl PromptFields {
    /// The keys that they are read from.
    pub const KEYS: &'static [&'static str] = &[
        "prompt",
        "messages",
        "token_ids",
        "prompt_token_ids",
        "images",
        "tools",
        "chat_template_kwargs",
    ];

    /// The messages, and the pictures of the row: those under `images`, or those in the messages' parts.
    fn shown(
        &self,
        (folder, place): (&Path, &str),
    ) -> Result<(Option<Vec<Message>>, Vec<ImageSource>), CliFailure> {
        let wrong = |problem: String| CliFailure::input(format!("{place}: {problem}"));
        let images = self.images.as_ref().unwrap_or(&Value::Null);
        let images = row_pictures(images, folder).map_err(wrong)?;
        let Some(messages) = self.messages.clone() else {
            return Ok((None, images));
        };
        let said = row_messages(messages, folder).map_err(wrong)?;
        match (images.is_empty(), said.images.is_empty()) {
            (false, false) => Err(wrong(
                "pictures stand both in the messages and under `images`: which are shown?".into(),
            )),
            (false, true) => Ok((Some(said.messages), images)),
            (true, _) => Ok((Some(said.messages), said.images)),
        }
    }

    /// Variables of the chat template.
    fn variables(&self) -> Result<IndexMap<String, Value>, String> {
        row_variables(&json!({
            "tools": self.tools,
            "chat_template_kwargs": self.chat_template_kwargs,
        }))
    }
}

/// What a row's prompt is to the policy: ids, and the pictures among them.
pub type Prompted = (Vec<i64>, Option<Arc<PromptImages>>);

/// The text side of a model folder, tokenizer and chat template absent for folders of ids alone,
/// and how it takes pictures, where it does.
pub struct TextSide {
    /// The tokenizer.
    pub tokenizer: Option<Arc<Tokenizer>>,
    chat: Option<ChatTemplate>,
    eyes: Option<Processor>,
    vocab: i64,
}

impl TextSide {
    /// Reads what the folder has, for its `model`.
    pub fn read(folder: &Path, model: &Decoder) -> Result<Self, CliFailure> {
        let has_tokenizer = text_folder(folder).join("tokenizer.json").exists();
        let tokenizer = has_tokenizer.then(|| Tokenizer::read(folder)).transpose()?;
        let chat = ChatTemplate::load(folder).map_err(CliFailure::input)?;
        Ok(Self {
            tokenizer: tokenizer.map(Arc::new),
            chat,
            eyes: model.vision().map(|vision| vision.processor.clone()),
            vocab: model.config.vocab_size,
        })
    }

    /// Whether the folder has a chat template.
    pub fn chats(&self) -> bool {
        self.chat.is_some()
    }

    /// The ids of `text`.
    pub fn encode(&self, text: &str, place: &str) -> Result<Vec<i64>, CliFailure> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| {
            CliFailure::input(format!(
                "{place}: text needs a tokenizer.json in the model folder; give token ids instead"
            ))
        })?;
        Ok(tokenizer.encode(text))
    }

    /// Checks that `ids` are the model's.
    pub fn check(&self, ids: Vec<i64>, place: &str) -> Result<Vec<i64>, CliFailure> {
        match ids.iter().find(|id| !(0..self.vocab).contains(*id)) {
            Some(id) => Err(CliFailure::input(format!(
                "{place}: token id {id} is not in 0..{}",
                self.vocab
            ))),
            None => Ok(ids),
        }
    }

    /// The pictures of a row, as the policy takes them.
    fn pictures(
        &self,
        images: &[ImageSource],
        place: &str,
    ) -> Result<Vec<ProcessedPicture>, CliFailure> {
        let eyes = match (&self.eyes, images) {
            (_, []) => return Ok(Vec::new()),
            (Some(eyes), _) => eyes,
            (None, _) => {
                return Err(CliFailure::input(format!(
                    "{place}: images: this model reads text only"
                )));
            }
        };
        images
            .iter()
            .map(|image| {
                let wrong = |error: &dyn std::fmt::Display| match image {
                    ImageSource::Path(path) => {
                        CliFailure::input(format!("{place}: images: {}: {error}", path.display()))
                    }
                    ImageSource::Png(_) => CliFailure::input(format!("{place}: images: {error}")),
                };
                let bytes = match image {
                    ImageSource::Path(path) => {
                        std::fs::read(path).map_err(|error| wrong(&error))?.into()
                    }
                    ImageSource::Png(bytes) => bytes.clone(),
                };
                let rgb = Rgb8::decode_upright(&bytes).map_err(|error| wrong(&error))?;
                eyes.picture(&rgb).map_err(|error| wrong(&error))
            })
            .collect()
    }

    /// The ids of a text with placeholders for `pictures`.
    fn expand(
        &self,
        text: &str,
        pictures: &[ProcessedPicture],
        place: &str,
    ) -> Result<Vec<i64>, CliFailure> {
        let Some(eyes) = self.eyes.as_ref().filter(|_| !pictures.is_empty()) else {
            return self.encode(text, place);
        };
        let text = eyes
            .expand(
                text,
                &pictures.iter().map(|one| one.tokens).collect::<Vec<_>>(),
            )
            .map_err(|error| CliFailure::input(format!("{place}: images: {error}")))?;
        self.encode(&text, place)
    }

    /// Messages as the folder's chat template takes them.
    fn in_words(&self, messages: Vec<Message>) -> Vec<Message> {
        let Some(eyes) = self.eyes.as_ref().filter(|eyes| eyes.writes_placeholders()) else {
            return messages;
        };
        let written = messages.into_iter().map(|message| Message {
            content: message.content.in_words(eyes.mark()),
            ..message
        });
        written.collect()
    }

    /// Refuses a row whose pictures are not there, before work on other rows begins.
    pub fn look_for(
        &self,
        fields: &PromptFields,
        (folder, place): (&Path, &str),
    ) -> Result<(), CliFailure> {
        let (_, images) = fields.shown((folder, place))?;
        for image in &images {
            let ImageSource::Path(path) = image else {
                continue;
            };
            std::fs::metadata(path).map_err(|error| {
                CliFailure::input(format!("{place}: images: {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    /// The prompt's ids and pictures; paths of pictures are relative to `folder`.
    pub fn prompt(
        &self,
        fields: PromptFields,
        (folder, place): (&Path, &str),
    ) -> Result<Prompted, CliFailure> {
        let (messages, images) = fields.shown((folder, place))?;
        let pictures = self.pictures(&images, place)?;
        let wrong = |error: String| CliFailure::input(format!("{place}: {error}"));
        let variables = fields.variables().map_err(wrong)?;
        let ids = match (fields.prompt, messages, fields.token_ids) {
            (Some(text), None, None) => self.expand(&text, &pictures, place)?,
            (None, Some(messages), None) if messages.is_empty() => {
                return Err(CliFailure::input(format!(
                    "{place}: messages: none is there"
                )));
            }
            (None, Some(messages), None) => {
                let chat = self.chat.as_ref().ok_or_else(|| {
                    CliFailure::input(format!(
                        "{place}: messages need a chat template in the model folder"
                    ))
                })?;
                let messages = self.in_words(messages);
                let text = chat
                    .render(&messages, true, &variables)
                    .map_err(|error| wrong(error.to_string()))?;
                check_rendered(chat, &messages, &variables, &text).map_err(wrong)?;
                self.expand(&text, &pictures, place)?
            }
            (None, None, Some(ids)) => self.check(ids, place)?,
            _ => {
                return Err(CliFailure::input(format!(
                    "{place}: exactly one of prompt, messages and token ids is needed"
                )));
            }
        };
        if ids.is_empty() {
            return Err(CliFailure::input(format!(
                "{place}: the prompt has no tokens"
            )));
        }
        let shown = match &self.eyes {
            None => None,
            Some(eyes) => eyes
                .prompt_images(&ids, pictures)
                .map_err(|error| CliFailure::input(format!("{place}: images: {error}")))?,
        };
        Ok((ids, shown))
    }
}
