//! What a run is made of besides its config: the rows, the first weights, the tokenizer, the encoders and the
//! words of the templates, each as a digest. A checkpoint carries them, so that what is continued is what was
//! interrupted; ranks compare them before they compute.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use models::{adapter_base, is_adapter, text_folder};
use rayon::prelude::*;
use rollout::data::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::config::Config;

/// Bytes whose checksum one thread takes.
const CHUNK: usize = 64 << 20;

/// The rows of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInput {
    /// Rows to train on and rows held out.
    pub rows: usize,
    /// What tells them from other rows.
    pub digest: String,
}

/// What a run is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inputs {
    /// The rows of each source.
    pub data: BTreeMap<String, SourceInput>,
    /// Shape and weights at `model.path`; nothing for fresh ones.
    pub model: Option<String>,
    /// The tokenizer's files.
    pub tokenizer: String,
    /// The files of each encoder.
    pub encoders: BTreeMap<String, String>,
    /// The words of each task, and the chat template.
    pub templates: BTreeMap<String, String>,
}

/// One thing that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its dotted key, or what of the inputs it is.
    pub key: String,
    /// What it was and what it is.
    pub text: String,
}

impl Change {
    /// Whether a name that the user gave covers it: itself, or what stands above it.
    #[must_use]
    pub fn is_covered(&self, name: &str) -> bool {
        self.key
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

impl Inputs {
    /// Of `config`, whose data is open.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn of(config: &Config, catalog: &Catalog) -> Result<Self, TrainError> {
        let sources = catalog.summary().into_iter();
        let data = sources.map(|source| {
            let rows = source.train + source.held_out;
            let digest = source.digest;
            (source.name, SourceInput { rows, digest })
        });
        let mut encoders = BTreeMap::new();
        for (name, encoder) in &config.encoders {
            if encoder.init.is_none() {
                encoders.insert(name.clone(), encoder_digest(&encoder.path)?);
            }
        }
        let tokenizer = config.model.tokenizer_folder();
        Ok(Self {
            data: data.collect(),
            model: match &config.model.path {
                Some(path) => Some(policy_digest(path)?),
                None => None,
            },
            tokenizer: tokenizer.map_or_else(|| Ok(String::new()), tokenizer_digest)?,
            encoders,
            templates: templates(config),
        })
    }

    /// What differs in `now`.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let mut out = Vec::new();
        // With the digests, so that what was accepted once is that and nothing else.
        let mut add = |key: String, text: String, (was, is): (&str, &str)| {
            let text = format!("{text} (was {was}, is {is})");
            out.push(Change { key, text });
        };
        for (name, was) in &self.data {
            let Some(is) = now.data.get(name).filter(|is| *is != was) else {
                continue;
            };
            let text = match is.rows == was.rows {
                true => format!("the {} rows of the source are others", was.rows),
                false => format!("the source had {} rows and now has {}", was.rows, is.rows),
            };
            let key = format!("data.sources.{name}");
            add(key, text, (&was.digest, &is.digest));
        }
        if let (Some(was), Some(is)) = (&self.model, &now.model)
            && was != is
        {
            let text = "the folder holds other weights than those that the run began with";
            add("model.path".into(), text.into(), (was, is));
        }
        if self.tokenizer != now.tokenizer {
            let (was, is) = (&self.tokenizer, &now.tokenizer);
            add("tokenizer".into(), "its files are others".into(), (was, is));
        }
        for (kind, text, was, is) in [
            (
                "encoders",
                "its files are others",
                &self.encoders,
                &now.encoders,
            ),
            (
                "templates",
                "the words are others",
                &self.templates,
                &now.templates,
            ),
        ] {
            for (name, was) in was {
                if let Some(is) = is.get(name).filter(|is| *is != was) {
                    add(format!("{kind}.{name}"), text.into(), (was, is));
                }
            }
        }
        out
    }
}

/// What tells a policy's folder from others: its shape and weights, and its tokenizer.
///
/// # Errors
/// A file that is there and cannot be read.
pub(crate) fn policy_digests(folder: &Path) -> Result<[String; 2], TrainError> {
    Ok([policy_digest(folder)?, tokenizer_digest(folder)?])
}

/// Digest of a policy's shape and weights; of an adapter with how it counts and its base's.
fn policy_digest(folder: &Path) -> Result<String, TrainError> {
    let own = folder_digest(folder, &policy_files)?;
    if !is_adapter(folder) {
        return Ok(own);
    }
    let base = adapter_base(folder).map_err(TrainError::Input)?;
    let described = fs::read(folder.join("adapter_config.json")).ok();
    let described = described.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let described = described.unwrap_or_default();
    let counts = ["r", "lora_alpha", "use_rslora"].map(|key| described[key].to_string());
    let base = folder_digest(&base, &policy_files)?;
    Ok(digest(&[own, counts.concat(), base]))
}

/// What tells a network's folder or file from others.
///
/// # Errors
/// A file that is there and cannot be read.
pub(crate) fn encoder_digest(path: &Path) -> Result<String, TrainError> {
    folder_digest(path, &encoder_files)
}

/// Digest of the files that `choose` takes of a folder, or of `path` itself where it is a file.
fn folder_digest(
    path: &Path,
    choose: &dyn Fn(&[PathBuf]) -> Vec<PathBuf>,
) -> Result<String, TrainError> {
    if path.is_file() {
        return Ok(digest(&[checksum(path)?]));
    }
    let mut all: Vec<PathBuf> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    all.sort();
    let sums: Result<Vec<String>, _> = choose(&all).iter().map(|path| checksum(path)).collect();
    Ok(digest(&sums?))
}

/// The shape and the weights of a policy, as `from_pretrained` chooses among them.
fn policy_files(all: &[PathBuf]) -> Vec<PathBuf> {
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let of = |start: &str, end: &str| -> Vec<PathBuf> {
        let fits = |path: &&PathBuf| name(path).starts_with(start) && name(path).ends_with(end);
        all.iter().filter(fits).cloned().collect()
    };
    let mut chosen = of("config", ".json");
    chosen.extend(of("generation_config", ".json"));
    let weights = [
        of("model", ".safetensors"),
        of("", ".safetensors"),
        of("pytorch_model", ".bin"),
    ];
    chosen.extend(
        weights
            .into_iter()
            .find(|found| !found.is_empty())
            .unwrap_or_default(),
    );
    chosen
}

/// Everything that an encoder may read.
fn encoder_files(all: &[PathBuf]) -> Vec<PathBuf> {
    const ENDS: [&str; 7] = ["json", "safetensors", "bin", "pt", "pth", "model", "txt"];
    let ends = |path: &&PathBuf| {
        let end = path.extension().unwrap_or_default();
        ENDS.iter().any(|known| end == *known)
    };
    all.iter().filter(ends).cloned().collect()
}

fn tokenizer_digest(folder: &Path) -> Result<String, TrainError> {
    const FILES: [&str; 6] = [
        "tokenizer.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "special_tokens_map.json",
    ];
    let folder = &text_folder(folder);
    let mut sums = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        if path.is_file() {
            sums.push(format!("{name} {}", checksum(&path)?));
        }
    }
    // The template is told apart from the tokens.
    let mut settings = settings(folder);
    settings.remove("chat_template");
    sums.push(Value::Object(settings).to_string());
    Ok(digest(&sums))
}

fn settings(folder: &Path) -> Map<String, Value> {
    let read = fs::read(folder.join("tokenizer_config.json")).ok();
    let parsed = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    parsed.unwrap_or_default()
}

fn templates(config: &Config) -> BTreeMap<String, String> {
    let tasks = config.tasks.iter().map(|(name, task)| {
        let prompt = task.prompt_config();
        (name.clone(), digest(&prompt.templates))
    });
    let mut all: BTreeMap<String, String> = tasks.collect();
    if let Some(folder) = config.model.tokenizer_folder().map(text_folder) {
        let mut parts = vec![
            settings(&folder)
                .get("chat_template")
                .unwrap_or(&json!(null))
                .to_string(),
        ];
        for name in ["chat_template.jinja", "chat_template.json"] {
            parts.extend(fs::read_to_string(folder.join(name)).ok());
        }
        all.insert("chat template".into(), digest(&parts));
    }
    all
}

/// Length and checksums of a file, taken by all threads.
fn checksum(path: &Path) -> Result<String, TrainError> {
    let file = torch_ext::MappedFile::open(path).map_err(TrainError::io(path))?;
    let bytes: &[u8] = &file;
    let sums: Vec<String> = bytes
        .par_chunks(CHUNK)
        .map(|chunk| format!("{:08x}", crc32fast::hash(chunk)))
        .collect();
    Ok(format!("{} {}", bytes.len(), sums.concat()))
}

/// Sixteen hexadecimal digits for `parts`.
fn digest<T: AsRef<str>>(parts: &[T]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        let part = part.as_ref().as_bytes();
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex_digest(hasher)
}

/// Sixteen hexadecimal digits of what was hashed.
pub(crate) fn hex_digest(hasher: Sha256) -> String {
    let bytes = hasher.finalize();
    bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_covered_by_its_kind() {
        let rows = |rows: usize, digest: &str| SourceInput {
            rows,
            digest: digest.into(),
        };
        let before = Inputs {
            data: BTreeMap::from([("a".into(), rows(5, "1")), ("b".into(), rows(5, "1"))]),
            model: Some("1".into()),
            tokenizer: "1".into(),
            encoders: BTreeMap::from([("dino".into(), "1".into())]),
            templates: BTreeMap::from([("draw".into(), "1".into())]),
        };
        assert_eq!(before.changes(&before), []);
        let now = Inputs {
            data: BTreeMap::from([("a".into(), rows(3, "2")), ("b".into(), rows(5, "3"))]),
            model: Some("2".into()),
            tokenizer: "2".into(),
            encoders: BTreeMap::from([("dino".into(), "2".into())]),
            templates: BTreeMap::from([("draw".into(), "2".into())]),
        };
        let changes = before.changes(&now);
        assert!(changes[0].text.contains("had 5 rows and now has 3"));
        assert!(
            changes[1]
                .text
                .contains("the 5 rows of the source are others (was 1, is 3)")
        );
        for (name, count) in [
            ("data", 2),
            ("data.sources.a", 1),
            ("model", 1),
            ("tokenizer", 1),
            ("encoders", 1),
            ("templates", 1),
            ("dat", 0),
        ] {
            let covered = changes.iter().filter(|change| change.is_covered(name));
            assert_eq!(covered.count(), count, "{name}");
        }
        assert_eq!(changes.len(), 6);
    }

    #[test]
    fn a_model_folder_is_its_shape_and_the_weights_that_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let of = || folder_digest(folder.path(), &policy_files).unwrap();
        write("config.json", "{}");
        write("model.safetensors", "weights");
        let first = of();
        for name in ["optimizer.pt", "pytorch_model.bin", "README.md"] {
            write(name, "beside");
        }
        assert_eq!(of(), first);
        write("model.safetensors", "weighty");
        assert_ne!(of(), first);
        write("model.safetensors", "weights");
        write("config.json", "{ }");
        assert_ne!(of(), first);
    }
}
